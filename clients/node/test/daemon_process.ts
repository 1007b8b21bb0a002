/**
 * A scripted daemon as a process of its own, to be frozen: `node daemon_process.js TARGET`; says so to its parent once
 * it listens.
 */

import { ScriptedDaemon } from "./scripted_daemon.js";

await new ScriptedDaemon(process.argv[2]!).start();
process.send?.("ready");

#!/usr/bin/env bash
# Compiles the client and its command of the conformance suite, where a source has changed since the last time.
set -euo pipefail
cd "$(dirname "$0")"
made=client/target/classpath
if [[ ! -f $made || -n $(find pom.xml client/pom.xml client/src -newer "$made" -print -quit) ]]; then
  mvn -q -B -pl client process-test-classes
  touch "$made"
fi

"""Access logs of proxies that do not report themselves: what their entries say of sessions."""

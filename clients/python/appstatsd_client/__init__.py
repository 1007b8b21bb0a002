"""Reports the sessions of a proxy to the appstatsd daemon on its host."""

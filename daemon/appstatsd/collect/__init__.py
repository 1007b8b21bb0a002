"""The pure core: sessions, groups and the roll-up, as columns. Knows no gRPC, no SQL, no clock on the wall."""

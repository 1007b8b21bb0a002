COPY appstatsd_incoming FROM STDIN (FORMAT binary);

"""gRPC: streams of reports in, acknowledgements out."""

"""What operators see: metrics, status, logs, systemd notifications."""

"""The commands of `appstatsd`, a file each."""

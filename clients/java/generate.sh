#!/usr/bin/env bash
# Generates the messages of proto/ as Java into the folder $1, with the protoc of the version that pom.xml names.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
version=$(sed -n 's|.*<protobuf.version>\(.*\)</protobuf.version>.*|\1|p' "$here/pom.xml")
case $(uname -m) in aarch64 | arm64) machine=aarch_64 ;; *) machine=x86_64 ;; esac
name=protoc-$version-linux-$machine.exe
protoc=$here/target/$name
if [[ ! -x $protoc ]]; then
  cd "$here"
  mvn -q -B -N dependency:copy -DoutputDirectory=target \
    -Dartifact="com.google.protobuf:protoc:$version:exe:linux-$machine"
  chmod +x "$protoc"
fi
"$protoc" -I "$here/../../proto" --java_out="$out" appstats/v1/appstats.proto

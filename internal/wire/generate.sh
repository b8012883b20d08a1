#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Regenerates the Go code of wire.proto. The plugins come pinned from go.mod;
# protoc itself from the distribution, so its version is cut from the header.
set -eu
cd "$(dirname "$0")"
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/protoc-gen-go" google.golang.org/protobuf/cmd/protoc-gen-go
go build -o "$bin/protoc-gen-go-grpc" google.golang.org/grpc/cmd/protoc-gen-go-grpc
PATH="$bin:$PATH" protoc --go_out=. --go_opt=paths=source_relative \
	--go-grpc_out=. --go-grpc_opt=paths=source_relative wire.proto
sed -i "/protoc  *v[0-9]/d" wire.pb.go wire_grpc.pb.go

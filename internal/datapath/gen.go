// SPDX-License-Identifier: Apache-2.0

package datapath

//go:generate go tool bpf2go -go-package datapath -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -nostdinc -Wall -Werror -Wno-unused-function" -type event -type listener -type target -type peer -type listener_key -type vip -type gateway_flow -type gateway_flow6 Gateway bpf/gateway.bpf.c
//go:generate go tool bpf2go -go-package datapath -cc clang-19 -strip llvm-strip-19 -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -nostdinc -Wall -Werror -Wno-unused-function" -type instance -type guest_port -type host_flow -type host_flow6 -type former_flow Host bpf/host.bpf.c

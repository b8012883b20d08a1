// SPDX-License-Identifier: Apache-2.0

// Package wire is the language between a server and its nodes: messages and
// service generated from wire.proto, and nothing else.
//
// The ledger of protocol versions. A side that meets a newer one goes on with
// what it understands; unknown fields are ignored by both.
//
//	1 (2026-11-23)  Enroll; Attach with Hello, Stage, Commit, Ack and Facts.
//	                A node holds the blobs of the last Stage it received and of
//	                the snapshot in force; a Stage brings those it lacks. After
//	                an Ack with an error the server assumes nothing and sends
//	                every blob again.
//	2 (2026-11-23)  EnrollRequest and Hello tell the machine's other addresses. A
//	                node is known by the certificate it enrolled with last: any
//	                other, and one of a node that was forgotten, answers
//	                PermissionDenied. A token may carry the server's address.
//	3 (2026-11-23)  Ask and Answer tell of tracked flows; a server asks only nodes
//	                that say 3 or more. Facts tell how full flow tables are.
//	                Hosts tell the connections of targets of LEAST_CONN listeners;
//	                Loads hands them to gateways.
//	4 (2026-11-23)  Passed tells hosts which revision every gateway in reach has
//	                in force. A host that is not told keeps the former one until
//	                the next Stage.
package wire

//go:generate ./generate.sh

// Protocol is the newest entry of the ledger that this program speaks.
const Protocol = 4

// ServerName is the name that every server's certificate carries and every
// node demands, whatever address it dialled.
const ServerName = "sallyport-server"

// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A Compiler is policy.Compile with a memory, so that groups that did not
// change are not compiled again. It may be used from several goroutines. The
// zero Compiler is not useful: NewCompiler makes one.
type Compiler struct {
	mu     sync.Mutex
	recent *list.List // of *compilation, most recently used first
	byKey  map[[32]byte]*list.Element
	made   uint64
}

type compilation struct {
	key [32]byte
	out *policy.Compiled
	err error
}

// compilerRoom is how many group lists a Compiler remembers: those used last.
const compilerRoom = 1024

// NewCompiler makes a Compiler that remembers nothing yet.
func NewCompiler() *Compiler {
	return &Compiler{recent: list.New(), byKey: make(map[[32]byte]*list.Element)}
}

// Compile is policy.Compile. Equal groups get the same pointer while they are
// remembered; what it points to must not be changed.
func (c *Compiler) Compile(groups []policy.Group) (*policy.Compiled, error) {
	key := keyOf(groups)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byKey[key]; ok {
		c.recent.MoveToFront(e)
		known := e.Value.(*compilation)
		return known.out, known.err
	}
	fresh := &compilation{key: key}
	fresh.out, fresh.err = policy.Compile(groups)
	c.made++
	c.byKey[key] = c.recent.PushFront(fresh)
	if c.recent.Len() > compilerRoom {
		oldest := c.recent.Back()
		delete(c.byKey, c.recent.Remove(oldest).(*compilation).key)
	}
	return fresh.out, fresh.err
}

// Made is how often something had to be compiled.
func (c *Compiler) Made() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made
}

// keyOf is a hash of all that Compile reads, each part preceded by its length.
func keyOf(groups []policy.Group) [32]byte {
	var b []byte
	number := func(n int) { b = binary.LittleEndian.AppendUint64(b, uint64(n)) }
	text := func(s string) { number(len(s)); b = append(b, s...) }
	service := func(proto lb.Proto, ports []lb.PortRange) {
		b = append(b, byte(proto))
		number(len(ports))
		for _, p := range ports {
			b = binary.LittleEndian.AppendUint16(b, p.First)
			b = binary.LittleEndian.AppendUint16(b, p.Last)
		}
	}
	for _, group := range groups {
		text(string(group.ID))
		number(len(group.Rules))
		for _, r := range group.Rules {
			text(string(r.ID))
			number(r.Pos)
			b = append(b, byte(r.Action), byte(r.Reason))
			service(r.Proto, r.Ports)
			number(len(r.Services))
			for _, s := range r.Services {
				service(s.Proto, s.Ports)
			}
			number(len(r.Peers))
			for _, p := range r.Peers {
				raw := p.Addr().AsSlice()
				b = append(b, byte(len(raw)), byte(p.Bits()))
				b = append(b, raw...)
			}
		}
	}
	return sha256.Sum256(b)
}

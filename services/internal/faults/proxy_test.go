package faults

import (
	"bufio"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between clients and a server that it can cut them off from.
// Safe for concurrent use.
type proxy struct {
	ln   net.Listener
	wire wire

	mu       sync.Mutex
	target   string             // address of the server; guarded by mu
	links    map[*link]struct{} // guarded by mu
	open     chan struct{}      // closed: bytes flow; guarded by mu
	refusing bool               // guarded by mu
	armed    []blow             // what the next writes meet; guarded by mu
	struck   map[blow]int       // guarded by mu
}

// blow is what happens to one write on its way.
type blow struct {
	write string // what the wire calls the write
	how   how
}

type how string

const (
	// lost: the server never gets it, and the connection breaks.
	lost how = "lost"
	// landed: the server does it; its answer is withheld, and the connection breaks.
	landed how = "landed"
	// starved: the engine is told to do it with no memory.
	starved how = "starved"
)

// wire is what a proxy knows of the protocol it carries.
type wire interface {
	// read takes the next unit from r. It may use buf.
	read(r *bufio.Reader, buf []byte) ([]byte, error)
	// write names the write that a client's unit begins, "" for none.
	write(unit []byte) string
	// answer returns a function that is given the server's units from now on. It
	// tells whether the unit is to be withheld, and whether the write that unit
	// began has been done. sent is how often the client sent something.
	answer(unit []byte, sent *atomic.Int64) func(unit []byte) (withhold, done bool)
	// starve changes the unit that begins a write so that it is refused.
	starve(unit []byte) []byte
}

// newProxy listens on a free port until the test ends.
func newProxy(t testing.TB, w wire) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{ln: ln, wire: w, links: map[*link]struct{}{}, open: make(chan struct{}), struck: map[blow]int{}}
	close(p.open)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go p.carry(c.(*net.TCPConn))
		}
	}()
	t.Cleanup(func() {
		ln.Close()
		<-done
		p.reset()
	})
	return p
}

func (p *proxy) addr() string { return p.ln.Addr().String() }

// aim tells where the server is from now on.
func (p *proxy) aim(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// link is one connection carried.
type link struct {
	p              *proxy
	client, server *net.TCPConn
	sent           atomic.Int64 // units that the client sent

	mu     sync.Mutex
	answer func([]byte) (withhold, done bool) // guarded by mu; nil: forward all
}

const (
	dialTimeout = 2 * time.Second
	// answerLimit is how long an answer that is to be withheld is waited for.
	answerLimit = 3 * time.Second
)

func (p *proxy) carry(client *net.TCPConn) {
	p.mu.Lock()
	target, refusing := p.target, p.refusing
	p.mu.Unlock()
	if refusing {
		tear(client)
		return
	}
	c, err := net.DialTimeout("tcp", target, dialTimeout)
	if err != nil {
		tear(client)
		return
	}
	l := &link{p: p, client: client, server: c.(*net.TCPConn)}
	p.mu.Lock()
	p.links[l] = struct{}{}
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { l.relay(l.client, l.server, l.up) })
	wg.Go(func() { l.relay(l.server, l.client, l.down) })
	wg.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// relay carries units one way until either side ends.
func (l *link) relay(from, to *net.TCPConn, pass func([]byte) ([]byte, bool)) {
	defer l.cut()
	r := bufio.NewReaderSize(from, 64<<10)
	var buf []byte
	for {
		unit, err := l.p.wire.read(r, buf)
		if err != nil {
			return
		}
		buf = unit[:0]
		<-l.p.gate()
		unit, more := pass(unit)
		if _, err := to.Write(unit); err != nil || !more {
			return
		}
	}
}

// up lets a unit of the client through, or what is to become of it.
func (l *link) up(unit []byte) (forward []byte, more bool) {
	l.sent.Add(1)
	write := l.p.wire.write(unit)
	if write == "" {
		return unit, true
	}
	switch l.p.strike(write) {
	case lost:
		return nil, false
	case landed:
		l.mu.Lock()
		l.answer = l.p.wire.answer(unit, &l.sent)
		l.mu.Unlock()
		time.AfterFunc(answerLimit, l.cut)
	case starved:
		return l.p.wire.starve(unit), true
	}
	return unit, true
}

// down lets a unit of the server through, unless its answer is withheld.
func (l *link) down(unit []byte) (forward []byte, more bool) {
	l.mu.Lock()
	answer := l.answer
	l.mu.Unlock()
	if answer == nil {
		return unit, true
	}
	withhold, done := answer(unit)
	if withhold {
		unit = nil
	}
	return unit, !done
}

// cut breaks both connections at once.
func (l *link) cut() {
	tear(l.client)
	tear(l.server)
}

// tear resets a connection: nothing that waits in it arrives.
func tear(c *net.TCPConn) {
	_ = c.SetLinger(0) // closed already, then
	_ = c.Close()
}

// gate is closed while bytes flow.
func (p *proxy) gate() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// strike tells what a write meets.
func (p *proxy) strike(write string) how {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, b := range p.armed {
		if b.write == write {
			p.armed = slices.Delete(p.armed, i, i+1)
			p.struck[b]++
			return b.how
		}
	}
	return ""
}

// arm has the next such write meet the blow.
func (p *proxy) arm(b blow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = append(p.armed, b)
}

// calm takes back all that was armed.
func (p *proxy) calm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = nil
}

// reset breaks all connections.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut()
	}
}

// refuse breaks all connections and accepts no others until the returned
// function is called.
func (p *proxy) refuse() (accept func()) {
	set := func(to bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.refusing = to
	}
	set(true)
	p.reset()
	return func() { set(false) }
}

// stall lets no byte through until the returned function is called.
func (p *proxy) stall() (flow func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	closed := make(chan struct{})
	p.open = closed
	return func() { close(closed) }
}

// readSome takes what has arrived.
func readSome(r *bufio.Reader, buf []byte) ([]byte, error) {
	if _, err := r.Peek(1); err != nil {
		return nil, err
	}
	n := r.Buffered()
	buf = slices.Grow(buf[:0], n)[:n]
	_, err := io.ReadFull(r, buf)
	return buf, err
}

package testenv

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
)

// The ports that FreeAddr gives: below those that the system gives away.
const firstPort, ports = 20_000, 12_000

// nextPort makes a process give every port once before any twice: who gets an
// address may bind it only seconds later. It begins anywhere, so that processes
// at the same time walk over different ports.
var nextPort atomic.Uint32

func init() { nextPort.Store(rand.Uint32N(ports)) } //nolint:gosec // any port will do

// FreeAddr is an address of this host, host:port, on which nobody listens now,
// and which no other caller in this process was given lately.
func FreeAddr() (string, error) {
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+nextPort.Add(1)%ports)
		ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
		if err != nil {
			continue
		}
		return addr, ln.Close()
	}
	return "", fmt.Errorf("no free port among 100 between %d and %d", firstPort, firstPort+ports)
}

package stack

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
)

// Ports below the kernel's ephemeral range, so that no outgoing connection
// takes one between our look and the program's start.
const (
	firstPort = 20000
	lastPort  = 32000
)

// FreeAddress returns a loopback address that nothing listens on.
func FreeAddress() (string, error) {
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if listener, err := net.Listen("tcp", address); err == nil { //nolint:noctx // Returns at once.
			return address, listener.Close()
		}
	}
	return "", errors.New("found no free port in 100 tries")
}

// addressOr returns address, or a free one when it is empty.
func addressOr(address string) (string, error) {
	if address != "" {
		return address, nil
	}
	return FreeAddress()
}

// Package load sends requests over loopback connections that it keeps open, and
// reads the answers at little cost: next to the server under test it should use
// as little of the machine as it can.
package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// patience is how long one answer may take before the connection counts as
// broken.
const patience = 30 * time.Second

// Target is what requests are sent to and what comes back.
type Target struct {
	Address string
	// Request returns the n-th request, all of its bytes. It may use buf, and is
	// called from many goroutines.
	Request func(buf []byte, n uint64) []byte
	// Status is what every answer must have.
	Status int
}

// client is one connection.
type client struct {
	net.Conn
	r   *bufio.Reader
	buf []byte
}

func dial(address string) (*client, error) {
	conn, err := net.DialTimeout("tcp", address, patience) //nolint:noctx // Has a deadline.
	if err != nil {
		return nil, err
	}
	return &client{Conn: conn, r: bufio.NewReaderSize(conn, 8<<10)}, nil
}

// dialAll opens n connections.
func dialAll(address string, n int) ([]*client, error) {
	clients := make([]*client, 0, n)
	for range n {
		c, err := dial(address)
		if err != nil {
			closeAll(clients)
			return nil, err
		}
		clients = append(clients, c)
	}
	return clients, nil
}

func closeAll(clients []*client) {
	for _, c := range clients {
		c.Close()
	}
}

// send writes the n-th request.
func (c *client) send(t Target, n uint64) error {
	c.buf = t.Request(c.buf[:0], n)
	_, err := c.Write(c.buf)
	return err
}

// receive reads one answer, and returns an error if it is not as it must be.
func (c *client) receive(t Target) error {
	status, err := readAnswer(c.r)
	if err != nil {
		return fmt.Errorf("reading an answer: %w", err)
	}
	if status != t.Status {
		return fmt.Errorf("status %d, want %d", status, t.Status)
	}
	return nil
}

var contentLength = []byte("content-length:")

// readAnswer reads an answer of HTTP/1.1 that has a Content-Length, and returns
// its status.
func readAnswer(r *bufio.Reader) (status int, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, fmt.Errorf("no status line: %.40q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, fmt.Errorf("no status line: %.40q", line)
	}
	length := -1
	for {
		if line, err = r.ReadSlice('\n'); err != nil {
			return 0, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if n := len(contentLength); len(line) > n && bytes.EqualFold(line[:n], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[n:]))); err != nil {
				return 0, fmt.Errorf("no length: %q", line)
			}
		}
	}
	if length < 0 {
		return 0, errors.New("an answer without Content-Length")
	}
	_, err = io.CopyN(io.Discard, r, int64(length))
	return status, err
}

package load

import (
	"bufio"
	"bytes"
	"net"
)

// Answer is what the upstream answers to every request.
const Answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n"

// Upstream answers requests without a body, and does nothing else.
type Upstream struct {
	Address  string
	listener net.Listener
}

// StartUpstream starts an upstream on a free port of loopback.
func StartUpstream() (*Upstream, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // Returns at once.
	if err != nil {
		return nil, err
	}
	u := &Upstream{listener.Addr().String(), listener}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn)
		}
	}()
	return u, nil
}

// Stop ends the upstream. Connections end with the gateway's.
func (u *Upstream) Stop() { u.listener.Close() }

func answer(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReaderSize(conn, 8<<10)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(bytes.TrimRight(line, "\r\n")) > 0 {
			continue
		}
		if _, err := conn.Write([]byte(Answer)); err != nil {
			return
		}
	}
}

package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// attempts is how many times a server that does not answer may be asked within
	// the time that a call may take.
	attempts = 3
	// poolSize is how many connections to one server may be in use at a time.
	poolSize = 32
	// idleTime is how long a connection is kept that is not in use.
	idleTime = 5 * time.Minute
)

// servers knows which server has a key.
type servers interface {
	// of returns the server of a key.
	of(ctx context.Context, key string) (*redis.Client, error)
	// follow sends a command to where its key is being moved to.
	follow(ctx context.Context, command redis.Cmder) error
	// lookAgain has it look who has what, because something failed. It does not
	// wait.
	lookAgain(ctx context.Context)
	Close() error
}

// quiet keeps the client from writing to the standard error: what matters of it
// is in errors.
type quiet struct{}

// Printf does nothing.
func (quiet) Printf(context.Context, string, ...any) {}

func init() { redis.SetLogger(quiet{}) }

// newServers returns the servers at an address. None is connected to yet.
func newServers(a Address, o Options) servers {
	patience := a.timeout / attempts
	d := dialer{tls: a.tls, patience: patience, authorities: o.Authorities}
	password := func() string {
		if o.Password != nil {
			return o.Password()
		}
		return a.password
	}
	unannounced := &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	credentials := func() (string, string) { return a.user, password() }
	switch a.kind {
	case KindCluster:
		return cluster{redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: a.hosts, Dialer: d.dial, CredentialsProvider: credentials, MaxRetries: -1, MaxRedirects: 1,
			DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience, ContextTimeoutEnabled: true,
			PoolSize: poolSize, ConnMaxIdleTime: idleTime, DisableIdentity: true, DialerRetries: 1, MaintNotificationsConfig: unannounced,
		})}
	case KindSentinel:
		options := &redis.FailoverOptions{
			MasterName: a.master, SentinelAddrs: a.hosts, Dialer: d.dial, DB: a.db, CredentialsProvider: credentials, MaxRetries: -1,
			DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience, ContextTimeoutEnabled: true,
			PoolSize: poolSize, ConnMaxIdleTime: idleTime, DisableIdentity: true, DialerRetries: 1,
		}
		if a.sentinelAuth {
			options.SentinelUsername, options.SentinelPassword = credentials()
		}
		return single{redis.NewFailoverClient(options)}
	default:
		return single{redis.NewClient(&redis.Options{
			Addr: a.hosts[0], Dialer: d.dial, DB: a.db, CredentialsProvider: credentials, MaxRetries: -1,
			DialTimeout: patience, ReadTimeout: patience, WriteTimeout: patience, PoolTimeout: patience, ContextTimeoutEnabled: true,
			PoolSize: poolSize, ConnMaxIdleTime: idleTime, DisableIdentity: true, DialerRetries: 1, MaintNotificationsConfig: unannounced,
		})}
	}
}

// single is one server, or the one that sentinels call the master.
type single struct{ *redis.Client }

func (s single) of(context.Context, string) (*redis.Client, error) { return s.Client, nil }

func (s single) follow(ctx context.Context, command redis.Cmder) error {
	return s.Process(ctx, command)
}

func (single) lookAgain(context.Context) {}

type cluster struct{ *redis.ClusterClient }

func (c cluster) of(ctx context.Context, key string) (*redis.Client, error) {
	return c.MasterForKey(ctx, key)
}

func (c cluster) follow(ctx context.Context, command redis.Cmder) error {
	return c.Process(ctx, command)
}

func (c cluster) lookAgain(ctx context.Context) { c.ReloadState(ctx) }

// dialer opens connections.
type dialer struct {
	tls         bool
	patience    time.Duration
	authorities func() *x509.CertPool
}

func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil || !d.tls {
		return conn, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if d.authorities != nil {
		config.RootCAs = d.authorities()
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(&net.OpError{Op: "dial", Net: network, Err: err}, conn.Close())
	}
	return secure, nil
}

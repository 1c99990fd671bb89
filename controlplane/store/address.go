package store

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kinds of stores.
const (
	KindMemory   = "memory"
	KindRedis    = "redis"
	KindSentinel = "redis-sentinel"
	KindCluster  = "redis-cluster"
)

const (
	defaultPort         = "6379"
	defaultSentinelPort = "26379"
	defaultPrefix       = "tollgate"
	defaultTimeout      = 3 * time.Second

	minTimeout  = 100 * time.Millisecond
	maxTimeout  = time.Minute
	maxHosts    = 100
	maxPrefix   = 64
	maxDatabase = 1<<31 - 1
)

// Address says where a store is. Its zero value is the memory of the process.
type Address struct {
	kind string
	tls  bool
	// hosts are host:port: the server, or some of the sentinels or nodes.
	hosts          []string
	user, password string
	master         string // as the sentinels call it
	sentinelAuth   bool   // sentinels take the same user and password
	db             int
	prefix         string // of all keys
	timeout        time.Duration
}

// schemes are those of URLs, and what they stand for.
var schemes = map[string]Address{
	"redis":           {kind: KindRedis},
	"rediss":          {kind: KindRedis, tls: true},
	"redis-sentinel":  {kind: KindSentinel},
	"rediss-sentinel": {kind: KindSentinel, tls: true},
	"redis-cluster":   {kind: KindCluster},
	"rediss-cluster":  {kind: KindCluster, tls: true},
}

// ParseAddress reads what --store says: memory, or a URL as docs/serve.md has
// them. Since a URL may hold a password, and a wrong one may hold it anywhere, its
// errors tell nothing of what stands before the path.
func ParseAddress(text string) (Address, error) {
	if text == KindMemory {
		return Address{}, nil
	}
	scheme, rest, found := strings.Cut(text, "://")
	a, known := schemes[scheme]
	if !found || !known {
		return Address{}, fmt.Errorf("must be memory, or a URL that begins with %s://", strings.Join(slices.Sorted(maps.Keys(schemes)), "://, "))
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, rest := rest[:end], rest[end:]
	if strings.Contains(rest, "@") {
		return Address{}, errors.New(`has an @ after the host; in a password, write "/" as %2F, "?" as %3F and "#" as %23`)
	}
	if strings.Contains(rest, "#") {
		return Address{}, errors.New("has a fragment (#), must have none")
	}
	path, query, _ := strings.Cut(rest, "?")
	problems := []error{a.parseAuthority(authority), a.parsePath(strings.TrimPrefix(path, "/")), a.parseQuery(query)}
	if err := errors.Join(problems...); err != nil {
		return Address{}, err
	}
	return a, nil
}

func (a *Address) parseAuthority(text string) error {
	if at := strings.LastIndex(text, "@"); at >= 0 {
		var userErr, passwordErr error
		user, password, _ := strings.Cut(text[:at], ":")
		a.user, userErr = url.PathUnescape(user)
		a.password, passwordErr = url.PathUnescape(password)
		if userErr != nil || passwordErr != nil {
			return errors.New(`user or password has a % without two hexadecimal digits behind it; write "%" as %25`)
		}
		text = text[at+1:]
	}
	port := defaultPort
	if a.kind == KindSentinel {
		port = defaultSentinelPort
	}
	hosts := strings.Split(text, ",")
	switch {
	case len(hosts) > 1 && a.kind == KindRedis:
		return errors.New("names several hosts, must be one; several are for redis-sentinel:// and redis-cluster://")
	case len(hosts) > maxHosts:
		return fmt.Errorf("names %d hosts, must be at most %d", len(hosts), maxHosts)
	}
	for i, host := range hosts {
		parsed, err := parseHost(host, port)
		if err != nil {
			if len(hosts) > 1 {
				return fmt.Errorf("host %d of %d %w", i+1, len(hosts), err)
			}
			return fmt.Errorf("the host %w", err)
		}
		a.hosts = append(a.hosts, parsed)
	}
	return nil
}

// parseHost returns host:port. Its errors begin after the subject, and tell
// nothing of the text.
func parseHost(text, defaultPort string) (string, error) {
	if !strings.Contains(text, ":") || strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]") {
		text += ":" + defaultPort
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", errors.New("must be NAME, NAME:PORT, IP:PORT or [IPv6]:PORT")
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return "", errors.New("has no good port, must be a number from 1 to 65535")
	}
	strange := func(r rune) bool {
		return r != '.' && r != '-' && r != '_' && r != ':' &&
			(r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}
	switch {
	case host == "":
		return "", errors.New("is missing")
	case strings.ContainsFunc(host, strange):
		return "", errors.New("has characters that are in no name and in no IP address")
	case strings.HasPrefix(text, "[") && (net.ParseIP(host) == nil || !strings.Contains(host, ":")):
		return "", errors.New("is in brackets, and no IPv6 address")
	}
	return net.JoinHostPort(host, port), nil
}

func (a *Address) parsePath(path string) error {
	switch {
	case a.kind == KindSentinel:
		master, err := url.PathUnescape(path)
		if err != nil || master == "" || strings.ContainsFunc(master, func(r rune) bool { return r <= ' ' || r == '/' || r == 0x7f }) {
			return fmt.Errorf("path %q, must be /NAME, the name that the sentinels have for the master", "/"+path)
		}
		a.master = master
	case path == "":
	case a.kind == KindCluster:
		return fmt.Errorf("path %q, must have none: a cluster has one database, number 0", "/"+path)
	default:
		return a.parseDatabase("path /", path)
	}
	return nil
}

func (a *Address) parseDatabase(place, text string) error {
	number, err := strconv.ParseUint(text, 10, 32)
	if err != nil || number > maxDatabase {
		return fmt.Errorf("%s%q, must be the number of a database, such as 0", place, text)
	}
	a.db = int(number)
	return nil
}

func (a *Address) parseQuery(text string) error {
	a.prefix, a.timeout = defaultPrefix, defaultTimeout
	values, err := url.ParseQuery(text)
	if err != nil {
		return errors.New("what follows ? must be NAME=VALUE, with & in between")
	}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if len(values[name]) > 1 {
			problems = append(problems, fmt.Errorf("%s: is there %d times, must be once", name, len(values[name])))
			continue
		}
		problems = append(problems, a.set(name, values[name][0]))
	}
	return errors.Join(problems...)
}

// set takes a parameter of the query.
func (a *Address) set(name, value string) error {
	switch {
	case name == "timeout":
		timeout, err := time.ParseDuration(value)
		if err != nil || timeout < minTimeout || timeout > maxTimeout {
			return fmt.Errorf("timeout: %q, must be a duration from %s to %s", value, minTimeout, maxTimeout)
		}
		a.timeout = timeout
	case name == "prefix":
		strange := func(r rune) bool {
			return r != '.' && r != '-' && r != '_' && r != ':' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}
		if value == "" || len(value) > maxPrefix || strings.ContainsFunc(value, strange) {
			return fmt.Errorf("prefix: %q, must be 1 to %d letters, digits, dots, hyphens, underscores and colons", value, maxPrefix)
		}
		a.prefix = value
	case name == "db" && a.kind == KindSentinel:
		return a.parseDatabase("db: ", value)
	case name == "sentinel-auth" && a.kind == KindSentinel:
		auth, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("sentinel-auth: %q, must be true or false", value)
		}
		a.sentinelAuth = auth
	default:
		allowed := "timeout and prefix"
		if a.kind == KindSentinel {
			allowed = "db, sentinel-auth, timeout and prefix"
		}
		return fmt.Errorf("there is no parameter %q, only %s", name, allowed)
	}
	return nil
}

// Kind tells the kind of store.
func (a Address) Kind() string {
	if a.kind == "" {
		return KindMemory
	}
	return a.kind
}

// TLS says whether the store is asked through TLS.
func (a Address) TLS() bool { return a.tls }

// String returns the address without a password.
func (a Address) String() string {
	if a.kind == "" {
		return KindMemory
	}
	var b strings.Builder
	b.WriteString(a.kind)
	if a.tls {
		b.Reset()
		b.WriteString(strings.Replace(a.kind, KindRedis, "rediss", 1))
	}
	b.WriteString("://")
	if a.user != "" {
		b.WriteString(url.User(a.user).String() + "@")
	}
	b.WriteString(strings.Join(a.hosts, ","))
	query := url.Values{}
	switch {
	case a.kind == KindSentinel:
		b.WriteString("/" + url.PathEscape(a.master))
		if a.db > 0 {
			query.Set("db", strconv.Itoa(a.db))
		}
		if a.sentinelAuth {
			query.Set("sentinel-auth", "true")
		}
	case a.db > 0:
		b.WriteString("/" + strconv.Itoa(a.db))
	}
	if a.prefix != defaultPrefix {
		query.Set("prefix", a.prefix)
	}
	if a.timeout != defaultTimeout {
		query.Set("timeout", a.timeout.String())
	}
	if len(query) > 0 {
		b.WriteString("?" + query.Encode())
	}
	return b.String()
}

package tollgate

import (
	"net/http"
	"strings"
)

// identityNames are the request headers that tell the upstream who is calling,
// by their canonical names. An empty one is left out.
type identityNames struct {
	appID        string
	subscription string
	plan         string
	keyTitle     string
	// refusal is for dry runs alone.
	refusal string
}

// list returns the names that are not empty.
func (n *identityNames) list() []string {
	var names []string
	for _, name := range []string{n.appID, n.subscription, n.plan, n.keyTitle, n.refusal} {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// identify sets the identity headers of a request, in place of whatever the
// client sent under these names.
func identify(h http.Header, names *identityNames, c *caller) {
	if names.appID != "" {
		h[names.appID] = c.appID
	}
	if names.subscription != "" {
		h[names.subscription] = c.subscription
	}
	if names.plan != "" {
		h[names.plan] = c.plan
	}
	if names.keyTitle != "" {
		h[names.keyTitle] = c.keyTitle
		if !c.titled {
			delete(h, names.keyTitle)
		}
	}
}

// maxConnectionBytes is how much Connection may list. No honest client lists
// more, and what is longer is taken out whole.
const maxConnectionBytes = 512

// keepIdentity takes the identity headers out of what Connection lists. A header
// that stands there is for the next hop alone, so a client could have the proxy
// drop its identity.
func keepIdentity(h http.Header, names *identityNames) {
	connection := h["Connection"]
	if len(connection) == 1 && (connection[0] == "keep-alive" || connection[0] == "Upgrade" || connection[0] == "close") {
		return
	}
	listed := strings.Join(connection, ",")
	if len(listed) > maxConnectionBytes {
		delete(h, "Connection")
		return
	}
	ours := map[string]bool{}
	for _, name := range names.list() {
		ours[name] = true
	}
	var kept []string
	for _, option := range strings.Split(listed, ",") {
		option = strings.TrimSpace(option)
		if option != "" && !ours[http.CanonicalHeaderKey(option)] {
			kept = append(kept, option)
		}
	}
	if len(kept) == 0 {
		delete(h, "Connection")
		return
	}
	h["Connection"] = []string{strings.Join(kept, ", ")}
}

// controls are the characters that no header may hold.
const controls = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f" +
	"\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"

// headerValue returns s with its control characters as spaces.
func headerValue(s string) string {
	if !strings.ContainsAny(s, controls) {
		return s
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}

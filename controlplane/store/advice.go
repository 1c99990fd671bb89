package store

import (
	"context"
	"strings"
)

// advise warns, once, of settings of the server with which it forgets more than it
// needs to. It knows only what the server is willing to tell, and of a cluster it
// asks one node.
func (r *Redis) advise(ctx context.Context) {
	if r.advised.Swap(true) {
		return
	}
	server, err := r.servers.of(ctx, r.clockKey())
	if err != nil {
		return
	}
	text, err := server.Info(ctx).Result()
	if err != nil {
		return
	}
	told := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		told[name] = value
	}
	if policy := told["maxmemory_policy"]; told["maxmemory"] != "0" && policy != "" && policy != "noeviction" {
		r.log.Warn("the store's server takes entries away when its memory is full, and limits with them: set maxmemory-policy to noeviction",
			"store", r.address.String(), "maxmemory-policy", policy)
	}
	if told["aof_enabled"] == "0" {
		r.log.Warn("the store's server does not write changes to its disk as they come, so a crash loses some or all: set appendonly to yes",
			"store", r.address.String())
	}
}

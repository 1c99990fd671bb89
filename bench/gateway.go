package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tollgate-apim/tollgate/bench/load"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// The plugin in testdata/noop.
const (
	noopName   = "noop"
	noopModule = "github.com/tollgate-apim/noop"
)

// gateway is a Traefik with everything around it, all on this machine.
type gateway struct {
	*stack.Traefik
	endpoints endpoints
	// addresses are those of the entry points, by row.
	addresses map[string]string

	upstream *load.Upstream
	tables   []*tableServer
	plane    *stack.ControlPlane
	big      *tableServer
	dir      string
}

// gatewayOptions says what a gateway has.
type gatewayOptions struct {
	binary   string
	foreigns []foreign
	// debug opens Traefik's profiles and statistics, which cost processor time:
	// nothing is timed in such a gateway.
	debug bool
}

// startGateway starts a gateway with all rows that need no big table.
func startGateway(ctx context.Context, o gatewayOptions) (*gateway, []*row, error) {
	g := &gateway{addresses: map[string]string{}}
	measured, err := g.start(ctx, o)
	if err != nil {
		return nil, nil, errors.Join(err, g.stop())
	}
	return g, measured, nil
}

func (g *gateway) start(ctx context.Context, o gatewayOptions) (measured []*row, err error) {
	if g.dir, err = os.MkdirTemp("", "tollgate-bench-"); err != nil {
		return nil, err
	}
	if g.upstream, err = load.StartUpstream(); err != nil {
		return nil, err
	}
	for _, t := range []struct {
		url  *string
		spec tableSpec
	}{
		{&g.endpoints.small, tableSpec{Revision: 1, Keys: keysInUse, APIs: 1}},
		{&g.endpoints.apis, tableSpec{Revision: 1, Keys: keysInUse, APIs: manyAPIs}},
		{&g.endpoints.big, smallest},
	} {
		server, err := startTableServer(t.spec)
		if err != nil {
			return nil, err
		}
		*t.url = server.URL
		g.tables = append(g.tables, server)
		g.big = server // The last.
	}
	if err := g.startControlPlane(ctx); err != nil {
		return nil, err
	}
	measured = rows(g.endpoints)
	for _, f := range o.foreigns {
		measured = append(measured, f.row())
	}
	plugins, err := g.layPlugins(o.foreigns)
	if err != nil {
		return nil, err
	}
	entryPoints := append(measured[:len(measured):len(measured)], bigRows(g.endpoints, 0)...)
	if err := g.assign(append(entryPoints, others)); err != nil {
		return nil, err
	}
	g.Traefik, err = stack.StartTraefik(ctx, stack.TraefikOptions{
		Binary:  o.binary,
		Dir:     g.dir,
		Dynamic: map[string]stack.Dynamic{"rows": g.dynamic(measured), "others": g.otherAPIs()},
		Static:  func(static map[string]any) { g.static(static, plugins, o.debug) },
	})
	if err != nil {
		return nil, err
	}
	return measured, g.awaitRows(ctx, measured)
}

// startControlPlane starts what gateways share limits through. Its table is that of
// the small endpoint.
func (g *gateway) startControlPlane(ctx context.Context) error {
	binary, err := stack.BuildTollgate(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(g.dir, "control-plane")
	manifests := filepath.Join(dir, "manifests")
	if err := os.MkdirAll(manifests, 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(manifests, "bench.yaml"), []byte(manifestsOf(keysInUse)), 0o600); err != nil {
		return err
	}
	g.plane, err = stack.StartControlPlane(ctx, stack.ControlPlaneOptions{Binary: binary, Dir: dir, Manifests: manifests})
	if err != nil {
		return err
	}
	g.endpoints.shared, g.endpoints.sharedToken = g.plane.URL, g.plane.Token
	return nil
}

// smallest is what the endpoint of the big table serves to begin with.
var smallest = tableSpec{Revision: 1, Keys: keysUsed, APIs: 1}

// others stands for the routers of the many APIs that are not measured.
var others = &row{}

func init() { others.Name = "others" }

// layPlugins lays the sources of plugins out where Traefik looks for them, and
// returns their module paths.
func (g *gateway) layPlugins(foreigns []foreign) (map[string]string, error) {
	root, err := stack.Root()
	if err != nil {
		return nil, err
	}
	modules := map[string]string{noopName: noopModule}
	dirs := map[string]string{noopName: filepath.Join(root, "bench", "testdata", "noop")}
	for _, f := range foreigns {
		modules[f.name], dirs[f.name] = f.Module, f.dir
	}
	for name, module := range modules {
		to := filepath.Join(g.dir, "plugins-local", "src", filepath.FromSlash(module))
		if err := os.CopyFS(to, os.DirFS(dirs[name])); err != nil {
			return nil, fmt.Errorf("laying out plugin %s: %w", name, err)
		}
	}
	return modules, nil
}

// assign gives each row that has a router an address.
func (g *gateway) assign(entryPoints []*row) error {
	for _, r := range entryPoints {
		if r.through != "" {
			continue
		}
		address, err := stack.FreeAddress()
		if err != nil {
			return err
		}
		g.addresses[r.Name] = address
	}
	return nil
}

// static changes the static configuration into one that people run: no access
// log, errors only.
func (g *gateway) static(static map[string]any, plugins map[string]string, debug bool) {
	type object = map[string]any
	delete(static, "accessLog")
	static["log"] = object{"level": "ERROR"}
	static["api"] = object{"insecure": true, "debug": debug, "dashboard": false}
	entryPoints := static["entryPoints"].(object)
	for name, address := range g.addresses {
		entryPoints[name] = object{"address": address}
	}
	local := static["experimental"].(object)["localPlugins"].(object)
	for name, module := range plugins {
		local[name] = object{"moduleName": module}
	}
}

// dynamic returns routers for rows.
func (g *gateway) dynamic(rows []*row) stack.Dynamic {
	d := stack.Dynamic{HTTP: stack.HTTP{
		Routers:     map[string]stack.Router{},
		Middlewares: map[string]stack.Middleware{},
		Services:    map[string]stack.Service{},
	}}
	for _, r := range rows {
		if r.through != "" {
			continue
		}
		router := stack.Router{EntryPoints: []string{r.Name}, Rule: "PathPrefix(`/`)", Service: r.Name}
		for i, m := range r.middlewares {
			name := fmt.Sprintf("%s-%d", r.Name, i)
			d.HTTP.Middlewares[name] = m
			router.Middlewares = append(router.Middlewares, name)
		}
		d.HTTP.Routers[r.Name] = router
		d.HTTP.Services[r.Name] = stack.UpstreamService("http://" + g.upstream.Address)
	}
	return d
}

// otherAPIs returns the routers of the many APIs but the first.
func (g *gateway) otherAPIs() stack.Dynamic {
	var all []*row
	for i := 1; i < manyAPIs; i++ {
		r := &row{middlewares: []stack.Middleware{tollgate(i, g.endpoints.apis)}}
		r.Name = fmt.Sprintf("api-%d", i)
		all = append(all, r)
	}
	d := g.dynamic(all)
	for name, router := range d.HTTP.Routers {
		router.EntryPoints, router.Rule = []string{others.Name}, "PathPrefix(`/"+name+"`)"
		d.HTTP.Routers[name] = router
	}
	return d
}

// awaitRows waits until each row is answered as it must be.
func (g *gateway) awaitRows(ctx context.Context, rows []*row) error {
	for _, r := range rows {
		t := r.target(g.addresses)
		err := stack.Until(ctx, "row "+r.Name, time.Minute, func() error { return load.Send(t, 1, 0, 1) })
		if err != nil {
			return fmt.Errorf("%w; Traefik's last lines:\n%s", err, g.Log.Tail(10))
		}
	}
	return nil
}

// addBig adds the rows with the big table, which is small to begin with.
func (g *gateway) addBig(ctx context.Context, keys int) ([]*row, error) {
	added := bigRows(g.endpoints, keys)
	if err := g.Configure("big", g.dynamic(added)); err != nil {
		return nil, err
	}
	return added, g.awaitRows(ctx, added)
}

func (g *gateway) stop() error {
	var err error
	if g.Traefik != nil {
		err = g.Stop()
	}
	for _, t := range g.tables {
		t.stop()
	}
	if g.plane != nil {
		err = errors.Join(err, g.plane.Stop())
	}
	if g.upstream != nil {
		g.upstream.Stop()
	}
	return errors.Join(err, os.RemoveAll(g.dir))
}

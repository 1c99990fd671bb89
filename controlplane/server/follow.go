package server

import (
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

const (
	// quiet is how long nothing may change before a change counts as complete,
	// patience how long that is waited for.
	quiet    = 100 * time.Millisecond
	patience = 2 * time.Second
	// attempts is how often manifests that change while they are read are read
	// again before they are taken as they are.
	attempts = 3
	// recheck is how often manifests are looked at without being told to: file
	// systems lose events, and network file systems send none.
	recheck = 30 * time.Second
	// retry is the same while they cannot be listed: what is gone is not watched.
	retry = time.Second
)

// Follower keeps a server's table in step with manifests.
//
// A change that leaves a file unreadable or a document unparsable is kept out as
// a whole until it is mended, because nobody can tell what is missing. What was
// so already when the follower started is left out instead, and does not keep
// later changes out.
//
// An object that an edit spoils is left out, unless others may then be admitted
// to more than before: of such an object the last good version stays in force
// until it is mended or taken away.
type Follower struct {
	// Paths are folders and files of manifests.
	Paths []string
	// Watch is called with the folders that matter before they are read.
	Watch func(folders []string) error
	// Changes delivers a value after something there changed.
	Changes <-chan struct{}
	Server  *Server
	Log     *slog.Logger

	files    []manifest.File          // as last read
	lost     bool                     // they could not be listed the last time
	keptOut  bool                     // the last change is kept out
	empty    bool                     // that there are none has been logged
	accepted map[string][]string      // what was broken in the table in force
	good     *manifest.Objects        // what the table in force is made of
	told     map[finding.Finding]bool // what has been logged and still stands
	failure  string                   // the last error that was logged
	table    *table.Table             // in force; nil before the first
}

// Run reads the manifests and then follows them until ctx ends. It fails if they
// cannot be listed at the start; afterwards it goes on, whatever happens.
func (f *Follower) Run(ctx context.Context) error {
	if err := f.reload(ctx); err != nil {
		return err
	}
	timer := time.NewTimer(recheck)
	defer timer.Stop()
	for {
		if f.lost {
			timer.Reset(retry)
		} else {
			timer.Reset(recheck)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.Changes:
			f.settle(ctx)
		case <-timer.C:
			// What was lost is read and watched again even if it is as before.
			if tree, err := manifest.List(f.Paths); !f.lost && err == nil && reflect.DeepEqual(tree.Files, f.files) {
				continue
			}
		}
		if err := f.reload(ctx); err != nil {
			f.keepOut([]finding.Finding{{Rule: finding.File, Severity: finding.Error, Problem: err.Error()}}, err)
		}
	}
}

// keepOut leaves the table in force as it is, and tells why.
func (f *Follower) keepOut(findings []finding.Finding, why error) {
	f.keptOut = true
	f.Server.KeepOut(findings)
	f.logFailure("change kept out: the last good table stays in force", why)
}

// settle waits until the change that was just told is complete.
func (f *Follower) settle(ctx context.Context) {
	calm, end := time.NewTimer(quiet), time.NewTimer(patience)
	defer calm.Stop()
	defer end.Stop()
	for {
		select {
		case <-f.Changes:
			calm.Reset(quiet)
		case <-calm.C:
			return
		case <-end.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// reload reads the manifests and publishes what they make. It fails if they
// cannot be listed or make no table.
func (f *Follower) reload(ctx context.Context) error {
	loaded, err := f.load(ctx)
	f.lost = err != nil
	if err != nil || ctx.Err() != nil {
		return err
	}
	f.logEmpty()
	if f.accepted != nil && breaks(loaded.Broken, f.accepted) {
		f.logFindings(loaded.Findings)
		f.keepOut(loaded.Findings, loaded.NotWhole())
		return nil
	}
	if f.good != nil {
		loaded.Findings = loaded.Objects.Restore(f.good, loaded.Findings)
	}
	result := compile.Compile(loaded.Objects)
	findings := finding.Sort(append(loaded.Findings, result.Findings...))
	f.logFindings(findings)
	fresh, err := f.publish(result.Table, findings)
	if err != nil {
		return err
	}
	mended := f.keptOut
	f.good = loaded.Objects.Restorable()
	f.accepted, f.failure, f.keptOut = loaded.Broken, "", false
	errors, warnings := finding.Count(findings)
	level, message := slog.LevelInfo, "table served"
	switch {
	case !fresh && mended:
		message = "mended: the manifests make the table in force again"
	case !fresh:
		level, message = slog.LevelDebug, "manifests read again: nothing changed"
	}
	f.Log.Log(ctx, level, message, "revision", f.table.Revision, "apis", len(result.Table.APIs), "plans", len(result.Table.Plans),
		"subscriptions", len(result.Table.Subscriptions), "applications", len(result.Table.Applications),
		"keys", len(result.Table.Keys), "errors", errors, "warnings", warnings)
	return nil
}

// publish puts t in force under its revision. It is not fresh if it says the same
// as the one in force: then neither revision nor time of issue change.
//
// A new revision is the time in milliseconds since 1970, or one more than the
// last where the clock has not moved on. So revisions go on growing when the
// control plane restarts, without any memory, unless the clock was set back for
// longer than it was down.
func (f *Follower) publish(t *table.Table, findings []finding.Finding) (fresh bool, err error) {
	now := time.Now().UTC()
	t.Revision, t.IssuedAt = now.UnixMilli(), now
	var change *compile.Change
	if f.table != nil {
		t.Revision = max(t.Revision, f.table.Revision+1)
		if change = compile.Diff(f.table, t); change.Empty() {
			t.Revision, t.IssuedAt = f.table.Revision, f.table.IssuedAt
		}
	}
	if err := f.Server.Publish(t, change, findings); err != nil {
		return false, err
	}
	f.table = t
	return change == nil || !change.Empty(), nil
}

// breaks reports whether anything is broken that was not accepted. How much is
// no measure: mending one document and breaking another in one edit may lose the
// other.
func breaks(broken, accepted map[string][]string) bool {
	for file, documents := range broken {
		if slices.Contains(accepted[file], manifest.WholeFile) {
			continue // nothing of it is in force
		}
		left := slices.Clone(accepted[file])
		for _, document := range documents {
			i := slices.Index(left, document)
			if i < 0 {
				return true
			}
			left = slices.Delete(left, i, i+1)
		}
	}
	return false
}

// load reads the manifests, again if they change meanwhile.
func (f *Follower) load(ctx context.Context) (*manifest.Loaded, error) {
	for attempt := 1; ; attempt++ {
		before, err := manifest.List(f.Paths)
		if err != nil {
			return nil, err
		}
		if err := f.Watch(before.Folders); err != nil {
			f.logFailure("changes may be noticed late", err)
		}
		loaded := manifest.Load(ctx, before.Files)
		f.files = before.Files
		if attempt == attempts {
			return loaded, nil
		}
		after, err := manifest.List(f.Paths)
		changed := err != nil || !reflect.DeepEqual(before, after)
		select {
		case <-ctx.Done():
			return loaded, nil
		case <-f.Changes:
			changed = true
		default:
		}
		if !changed {
			return loaded, nil
		}
		f.settle(ctx)
	}
}

// logFindings logs those that were not there the last time.
func (f *Follower) logFindings(findings []finding.Finding) {
	told := make(map[finding.Finding]bool, len(findings))
	for _, found := range findings {
		told[found] = true
		if f.told[found] {
			continue
		}
		level := slog.LevelWarn
		if found.Severity == finding.Error {
			level = slog.LevelError
		}
		f.Log.LogAttrs(context.Background(), level, "finding", attributes(found)...)
	}
	f.told = told
}

// attributes returns what a finding has to tell.
func attributes(found finding.Finding) []slog.Attr {
	attrs := []slog.Attr{slog.String("rule", string(found.Rule)), slog.String("file", found.File)}
	if found.Line > 0 {
		attrs = append(attrs, slog.Int("line", found.Line), slog.Int("column", found.Column))
	}
	for _, part := range []struct{ key, value string }{
		{"object", found.Object.String()}, {"field", found.Field},
		{"problem", found.Problem}, {"allowed", found.Allowed}, {"fix", found.Fix},
	} {
		if part.value != "" {
			attrs = append(attrs, slog.String(part.key, part.value))
		}
	}
	return attrs
}

// logEmpty logs once that there are no manifests, until there are again.
func (f *Follower) logEmpty() {
	empty := len(f.files) == 0
	if empty && !f.empty {
		f.Log.Warn("there are no manifests under " + strings.Join(f.Paths, ", "))
	}
	f.empty = empty
}

// logFailure logs an error once, until it is another or the table is served.
func (f *Follower) logFailure(message string, err error) {
	if text := message + err.Error(); text != f.failure {
		f.failure = text
		f.Log.Error(message, "error", err)
	}
}

package server

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/revision"
	"github.com/tollgate-apim/tollgate/controlplane/watch"
)

const (
	// quiet is how long nothing may change before a change counts as complete. Of
	// one file alone it is less: of one that is written where it stands, and of one
	// that was put in place as a whole.
	quiet        = 100 * time.Millisecond
	quietWritten = 50 * time.Millisecond
	quietPlaced  = 20 * time.Millisecond
	// patience is how long a change may go on until it counts as complete, and how
	// long a file that is empty may stay so before that is what was meant: many
	// programs empty a file first and write it then.
	patience = 2 * time.Second
	// attempts is how often manifests that change while they are read are read
	// again before they are taken as they are.
	attempts = 3
	// patient is the same for manifests that have lost their revision, as when a
	// commit is being checked out.
	patient = 10
	// recheck is how often manifests are looked at without being told to: file
	// systems lose events, and network file systems send none. It is longer where
	// that would take more than a hundredth of the time.
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
	// Changes delivers what changed there.
	Changes <-chan watch.Change
	// Revisions tells which revision manifests have by themselves; nil means none.
	Revisions revision.Source
	Server    *Server
	Log       *slog.Logger
	// Compiled is told how long it took to read what had changed, to compile it
	// and to publish the table; nil means that nobody wants to know.
	Compiled func(took time.Duration)

	lister   *manifest.Lister         // of Paths
	listing  time.Duration            // how long listing everything took
	reading  time.Duration            // how long reading what had changed took
	tree     manifest.Tree            // as last read
	number   revision.Number          // of what was last read
	noNumber error                    // why that has none
	cache    *manifest.Cache          // of what they hold
	compiled *compile.Incremental     // of what is in force
	lost     bool                     // they could not be listed the last time
	keptOut  bool                     // the last change is kept out
	empty    bool                     // that there are none has been logged
	accepted map[string][]string      // what was broken in the table in force
	told     map[finding.Finding]bool // what has been logged and still stands
	failure  string                   // the last error that was logged
	whole    bool                     // the table in force is not the one compiled last
	revision int64                    // in force; 0 before the first
	by       revision.Number          // what that was made of
}

// Run reads the manifests and then follows them until ctx ends. It fails if they
// cannot be listed at the start; afterwards it goes on, whatever happens.
func (f *Follower) Run(ctx context.Context) error {
	f.lister, f.cache, f.compiled = manifest.NewLister(f.Paths), manifest.NewCache(), compile.NewIncremental()
	if f.Revisions == nil {
		f.Revisions = revision.Clock{}
	}
	if f.Compiled == nil {
		f.Compiled = func(time.Duration) {}
	}
	if err := f.reload(ctx, nil); err != nil {
		return err
	}
	timer := time.NewTimer(recheck)
	defer timer.Stop()
	for {
		if f.lost {
			timer.Reset(retry)
		} else {
			timer.Reset(max(recheck, 100*f.listing))
		}
		var paths []string
		select {
		case <-ctx.Done():
			return nil
		case change := <-f.Changes:
			paths = f.settle(ctx, change)
		case <-timer.C:
			// What was lost is read and watched again even if it is as before.
			if !f.lost && f.isAsRead(ctx) {
				continue
			}
		}
		if err := f.reload(ctx, paths); err != nil {
			f.keepOutAll(err)
		}
	}
}

// isAsRead reports whether manifests and their revision are as they were read
// last, as far as can be told without reading them again.
func (f *Follower) isAsRead(ctx context.Context) bool {
	start := time.Now()
	tree, err := f.lister.List(nil)
	f.listing = time.Since(start)
	if err != nil || !tree.Equal(f.tree) {
		return false
	}
	number, err := f.Revisions.Of(ctx, tree)
	return (err == nil) == (f.noNumber == nil) && number == f.number
}

// keepOut leaves the table in force as it is, and tells why.
func (f *Follower) keepOut(findings []finding.Finding, why error) {
	f.keptOut = true
	f.Server.KeepOut(findings)
	f.logFailure("change kept out: the last good table stays in force", why)
}

// keepOutAll is keepOut where nobody knows what the manifests are.
func (f *Follower) keepOutAll(why error) {
	f.keepOut([]finding.Finding{{Rule: finding.File, Severity: finding.Error, Problem: why.Error()}}, why)
}

// settle waits until a change is complete, and returns the paths that it is about;
// nil if that may be anything.
func (f *Follower) settle(ctx context.Context, change watch.Change) []string {
	calm, end := time.NewTimer(calmAfter(change)), time.NewTimer(patience)
	defer calm.Stop()
	defer end.Stop()
	for {
		select {
		case next := <-f.Changes:
			change = change.And(next)
			calm.Reset(calmAfter(change))
			continue
		case <-calm.C:
		case <-end.C:
		case <-ctx.Done():
		}
		if change.Paths == nil {
			return nil
		}
		return slices.AppendSeq([]string{}, maps.Keys(change.Paths))
	}
}

// calmAfter returns how long nothing more may change.
func calmAfter(change watch.Change) time.Duration {
	if change.Path == "" || change.More {
		return quiet
	}
	info, err := os.Stat(change.Path)
	switch {
	case err != nil:
		return quiet
	case info.Size() == 0:
		return patience
	case change.Written:
		return quietWritten
	}
	return quietPlaced
}

// reload reads the manifests, of which some paths changed or, for nil, anything,
// and publishes what they make. It fails if they cannot be listed or make no
// table.
func (f *Follower) reload(ctx context.Context, paths []string) error {
	err := f.read(ctx, paths)
	f.lost = err != nil
	if err != nil || ctx.Err() != nil {
		return err
	}
	if f.noNumber != nil {
		if f.revision == 0 {
			return f.noNumber
		}
		f.keepOutAll(f.noNumber)
		return nil
	}
	f.logEmpty()
	broken := f.cache.Broken()
	if f.accepted != nil && breaks(broken, f.accepted) {
		told := f.cache.Told()
		f.logFindings(told.Findings)
		f.keepOut(told.Findings, told.NotWhole())
		return nil
	}
	start := time.Now()
	change := f.compiled.Apply(f.cache.Edits())
	findings := finding.Sort(append(f.cache.Told().Findings, f.compiled.Findings()...))
	f.logFindings(findings)
	fresh, err := f.publish(change, findings)
	if err != nil {
		return err
	}
	f.Compiled(f.reading + time.Since(start))
	mended := f.keptOut
	f.accepted, f.failure, f.keptOut = broken, "", false
	errors, warnings := finding.Count(findings)
	level, message := slog.LevelInfo, "table served"
	switch {
	case !fresh && mended:
		message = "mended: the manifests make the table in force again"
	case !fresh:
		level, message = slog.LevelDebug, "manifests read again: nothing changed"
	}
	t := f.compiled.Table()
	f.Log.Log(ctx, level, message, "revision", t.Revision, "by", f.by.By, "apis", len(t.APIs), "plans", len(t.Plans),
		"subscriptions", len(t.Subscriptions), "applications", len(t.Applications),
		"keys", len(t.Keys), "errors", errors, "warnings", warnings)
	return nil
}

// publish puts the table in force under its revision. It is not fresh if that is
// the one in force: then it says the same.
func (f *Follower) publish(change *compile.Change, findings []finding.Finding) (fresh bool, err error) {
	t := f.compiled.Table()
	if f.whole {
		change = nil
	}
	changed := change == nil || !change.Empty()
	t.Revision = f.next(changed)
	t.IssuedAt = issued(t.Revision)
	f.whole = true
	if err := f.Server.Publish(t, change, findings); err != nil {
		return false, err
	}
	if f.number.Why != f.by.Why {
		f.Log.Info("revisions come from the clock", "because", f.number.Why)
	}
	fresh = t.Revision != f.revision
	f.whole, f.revision, f.by = false, t.Revision, f.number
	return fresh, nil
}

// next returns the revision of a table that has changed or not: the one that the
// manifests have by themselves, or else the time in milliseconds since 1970. It
// only grows. So it is one more than the last where what was changed has no
// higher one by itself, or the clock was set back.
func (f *Follower) next(changed bool) int64 {
	own := f.number.Value
	if own == 0 && changed {
		own = time.Now().UnixMilli()
	}
	switch {
	case own > f.revision:
		return own
	case !changed:
		return f.revision
	case f.number.Value > 0:
		f.Log.Warn("the revision was counted up, because that of the manifests has not grown with their change: until it does, others that read them may give them another",
			"by", f.number.By, "theirs", own, "revision", f.revision+1)
	}
	return f.revision + 1
}

// issued returns the time of issue of a revision. It follows from the revision, so
// that all who agree on that agree on both.
func issued(revision int64) time.Time {
	const year9999 = 253_402_300_799_999 // the last that RFC 3339 can write
	return time.UnixMilli(min(revision, year9999)).UTC()
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

// read reads the manifests and their revision, again if they change meanwhile. It
// fails if they cannot be listed.
func (f *Follower) read(ctx context.Context, paths []string) error {
	for attempt := 1; ; attempt++ {
		before, err := f.lister.List(paths)
		if err != nil {
			return err
		}
		watched := f.watch(before, nil)
		start := time.Now()
		f.cache.Read(ctx, before.Files)
		f.reading = time.Since(start)
		f.tree = before
		f.number, f.noNumber = f.Revisions.Of(ctx, before)
		f.watch(before, watched)
		// What nothing is told of has not changed, if it was watched before.
		after, err := f.lister.Again()
		moved := err != nil || !before.Equal(after)
		changed := moved
		change := watch.Change{Paths: map[string]bool{}}
		select {
		case <-ctx.Done():
			return nil
		case change = <-f.Changes:
			changed = true
		default:
		}
		lost := f.noNumber != nil || f.number.Value == 0 && f.by.Value > 0
		if attempt >= patient || !lost && (!changed || attempt >= attempts) {
			return nil
		}
		if paths = f.settle(ctx, change); moved {
			paths = nil
		}
	}
}

// watch watches the folders that matter, unless they are those that are watched
// already, and returns them.
func (f *Follower) watch(tree manifest.Tree, watched []string) []string {
	folders := slices.Concat(tree.Folders, f.Revisions.Folders())
	if !slices.Equal(folders, watched) {
		if err := f.Watch(folders); err != nil {
			f.logFailure("changes may be noticed late", err)
		}
	}
	return folders
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
	empty := len(f.tree.Files) == 0
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

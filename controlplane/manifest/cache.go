package manifest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// Cache holds what files held when they were last read, and reads again what
// changed: files that are not as they were, and of these the documents. One
// goroutine uses it at a time.
//
// The objects in force are those as of the last Edits. What is read after that
// does nothing to them.
type Cache struct {
	readings   []*reading      // in the order of the files, which is that of paths
	kustomized map[string]bool // folders with a kustomization
	entries    map[space]map[string]*entry
	// namers has the drafts of applications that name a Secret, by its namespace
	// and name.
	namers   map[string]map[string][]*draft
	crowded  map[finding.Object]*entry // those with several drafts
	touched  []touched                 // what may have changed since the last Edits
	restored map[finding.Object]bool   // in force as they were before they were spoiled
}

// reading is what one file held.
type reading struct {
	file File
	rank int // among the files
	// settled says that no later change of the file can leave it looking as it
	// did when it was read.
	settled bool
	pieces  []*piece
	lines   []int    // of the file before each; origins have them once it counts
	telling []*piece // those with something to tell
}

// space is a kind in a namespace.
type space struct{ kind, namespace string }

// entry is what there is under one name in a space.
type entry struct {
	drafts   []*draft // in the order of files and lines: the first counts
	misspelt int      // how many documents mean it by a misspelt kind
	inForce  Object   // nil for none
	leftOut  bool     // as of the last Edits
	touched  bool
	// stirred says that a Secret which the application names is not as it was.
	stirred bool
}

type touched struct {
	ref finding.Object
	*entry
}

// NewCache returns a cache of nothing.
func NewCache() *Cache {
	return &Cache{
		entries: map[space]map[string]*entry{}, namers: map[string]map[string][]*draft{},
		crowded: map[finding.Object]*entry{}, restored: map[finding.Object]bool{},
	}
}

// Read makes files, ordered by path, the ones whose objects count, and reads those
// that are not as they were. It never fails: what cannot be used is left out, with a finding. Of
// two objects of one kind and name the first is kept, in the order of files and
// lines. When ctx ends it returns at once, with what it has so far.
func (c *Cache) Read(ctx context.Context, files []File) {
	c.read(ctx, files, func(l *loader, _ int) error { return l.file() })
}

// job is a file to be read, what it held before, and what it holds.
type job struct {
	place         int // among the files
	before, after *reading
}

// read lets load read the files that are not as they were. Its error says that a
// file must be read again even if it is as it was.
func (c *Cache) read(ctx context.Context, files []File, load func(l *loader, place int) error) {
	c.kustomized = map[string]bool{}
	readings := make([]*reading, len(files))
	var jobs []*job
	before := c.readings
	var gone []*reading
	for i, f := range files {
		if isKustomization(f.Path) {
			c.kustomized[filepath.Dir(f.Path)] = true
		}
		for len(before) > 0 && before[0].file.Path < f.Path {
			gone, before = append(gone, before[0]), before[1:]
		}
		j := &job{place: i}
		if len(before) > 0 && before[0].file.Path == f.Path {
			j.before, before = before[0], before[1:]
		}
		if j.before != nil && j.before.settled && j.before.file == f {
			readings[i] = j.before
		} else {
			jobs = append(jobs, j)
		}
	}
	gone = append(gone, before...)
	inParallel(ctx, jobs, func(l *loader, j *job) {
		file := files[j.place]
		after := &reading{file: file, settled: file.settled(time.Now())}
		l.open(file.Path, j.before)
		if err := load(l, j.place); err != nil {
			after.settled = false
		}
		after.pieces, after.lines = l.pieces, l.lines
		j.after = after
	})

	var fresh []*piece
	for _, j := range jobs {
		if j.after != nil {
			readings[j.place] = j.after
			fresh = append(fresh, j.after.own()...)
		}
	}
	for _, j := range jobs {
		c.drop(j.before)
	}
	for _, r := range gone {
		c.drop(r)
	}
	c.readings = slices.DeleteFunc(readings, func(r *reading) bool { return r == nil })
	for i, r := range c.readings {
		r.rank = i
	}
	for _, p := range fresh {
		c.add(p)
	}
	for ref, e := range c.crowded {
		c.arrange(ref, e)
	}
}

// inParallel runs each job, with the loader of whichever worker comes to it.
func inParallel(ctx context.Context, jobs []*job, run func(*loader, *job)) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(jobs)) {
		workers.Go(func() {
			l := &loader{shared: newShared()}
			for ctx.Err() == nil {
				i := next.Add(1) - 1
				if i >= int64(len(jobs)) {
					return
				}
				run(l, jobs[i])
			}
		})
	}
	workers.Wait()
}

// own makes a reading the one that its pieces are of, and returns those that were
// of none.
func (r *reading) own() []*piece {
	var fresh []*piece
	for i, p := range r.pieces {
		if p.of == nil {
			fresh = append(fresh, p)
		}
		p.of, p.origin.lines = r, r.lines[i]
		if p.tells() {
			r.telling = append(r.telling, p)
		}
	}
	r.lines = nil
	return fresh
}

// drop takes out what was of a reading and of none that came after it.
func (c *Cache) drop(r *reading) {
	if r == nil {
		return
	}
	for _, p := range r.pieces {
		if p.of != r {
			continue
		}
		for _, d := range p.drafts {
			c.dropDraft(d)
		}
		for _, ref := range p.misspelt() {
			e := c.entry(ref)
			e.misspelt--
			c.touch(ref, e)
		}
	}
}

func (c *Cache) dropDraft(d *draft) {
	ref := d.object.Ref()
	e := c.entry(ref)
	e.drafts = slices.DeleteFunc(e.drafts, func(other *draft) bool { return other == d })
	if len(e.drafts) < 2 {
		delete(c.crowded, ref)
	}
	c.touch(ref, e)
	for _, secret := range secretsOf(d.object) {
		names := c.namers[secret.Namespace]
		rest := slices.DeleteFunc(names[secret.Name], func(other *draft) bool { return other == d })
		if names[secret.Name] = rest; len(rest) == 0 {
			delete(names, secret.Name)
			c.touchNamed(secret)
		}
	}
}

// add takes in a piece.
func (c *Cache) add(p *piece) {
	for _, d := range p.drafts {
		ref := d.object.Ref()
		e := c.entry(ref)
		if e.drafts = append(e.drafts, d); len(e.drafts) > 1 {
			c.crowded[ref] = e
		}
		c.touch(ref, e)
		for _, secret := range secretsOf(d.object) {
			if c.namers[secret.Namespace] == nil {
				c.namers[secret.Namespace] = map[string][]*draft{}
			}
			names := c.namers[secret.Namespace]
			if names[secret.Name] = append(names[secret.Name], d); len(names[secret.Name]) == 1 {
				c.touchNamed(secret)
			}
		}
	}
	for _, ref := range p.misspelt() {
		e := c.entry(ref)
		e.misspelt++
		c.touch(ref, e)
	}
}

// secretsOf returns the Secrets that an object names, if it is an application,
// each once.
func secretsOf(object Object) []finding.Object {
	a, ok := object.(*ManagedApplication)
	if !ok {
		return nil
	}
	var secrets []finding.Object
	for _, k := range a.Spec.APIKeys {
		ref := finding.Object{Kind: "Secret", Namespace: a.Namespace, Name: k.SecretName}
		if k.SecretName != "" && !slices.Contains(secrets, ref) {
			secrets = append(secrets, ref)
		}
	}
	return secrets
}

// entry returns the entry of an object, made if there is none.
func (c *Cache) entry(ref finding.Object) *entry {
	in := space{ref.Kind, ref.Namespace}
	if c.entries[in] == nil {
		c.entries[in] = map[string]*entry{}
	}
	e := c.entries[in][ref.Name]
	if e == nil {
		e = &entry{}
		c.entries[in][ref.Name] = e
	}
	return e
}

func (c *Cache) touch(ref finding.Object, e *entry) {
	if !e.touched {
		e.touched = true
		c.touched = append(c.touched, touched{ref, e})
	}
}

// touchNamed notes that a Secret is named that was not, or the other way round.
func (c *Cache) touchNamed(secret finding.Object) {
	if e := c.entries[space{secret.Kind, secret.Namespace}][secret.Name]; e != nil {
		c.touch(secret, e)
	}
}

// isNamed reports whether an application names a Secret, be it left out itself.
// The other Secrets are none of our business: tools that encrypt or fill them in
// put into them what Kubernetes never sees.
func (c *Cache) isNamed(secret finding.Object) bool {
	return len(c.namers[secret.Namespace][secret.Name]) > 0
}

// arrange puts several drafts of one name into the order in which they count.
func (c *Cache) arrange(ref finding.Object, e *entry) {
	first := e.drafts[0]
	slices.SortStableFunc(e.drafts, func(a, b *draft) int {
		return cmp.Or(
			cmp.Compare(a.of.of.rank, b.of.of.rank),
			cmp.Compare(a.of.origin.lines, b.of.origin.lines),
			cmp.Compare(a.place, b.place),
		)
	})
	if e.drafts[0] != first {
		c.touch(ref, e)
	}
}

// candidate returns the object that the files have under a name, or nil, and
// whether findings leave out what they have.
func (c *Cache) candidate(ref finding.Object, e *entry) (object Object, leftOut bool) {
	leftOut = e.misspelt > 0
	if len(e.drafts) > 0 {
		if first := e.drafts[0]; first.failed {
			leftOut = true
		} else {
			object = first.object
		}
	}
	return object, leftOut && (ref.Kind != secretKind || c.isNamed(ref))
}

const secretKind = "Secret"

// Edit is what happens to an object in force. Before is nil if it comes, After if
// it goes. An application is edited too when one of its Secrets is: then both are
// the same.
type Edit struct {
	Ref           finding.Object
	Before, After Object
	// LeftOut says whether findings leave the object out, WasLeftOut whether they
	// did.
	WasLeftOut, LeftOut bool
}

// Edits puts what was read in force, and returns what that changes.
//
// An object that was in force, and that an error took out, stays as it was if its
// absence could admit more: a subscription, by way of a bundle or not, goes
// before lighter ones that allow more, and an application, by way of a Secret or
// not, is one whose subscription a shared key needs.
func (c *Cache) Edits() []Edit {
	c.stir()
	var edits []Edit
	for _, t := range c.touched {
		after, leftOut := c.candidate(t.ref, t.entry)
		delete(c.restored, t.ref)
		if after == nil && leftOut && t.inForce != nil && restricts(t.inForce) {
			after, leftOut = t.inForce, false
			c.restored[t.ref] = true
		}
		edit := Edit{Ref: t.ref, Before: t.inForce, After: after, WasLeftOut: t.leftOut, LeftOut: leftOut}
		if edit.Before != edit.After || edit.WasLeftOut != edit.LeftOut || t.stirred && after != nil {
			edits = append(edits, edit)
		}
		t.inForce, t.leftOut, t.touched, t.stirred = after, leftOut, false, false
		if len(t.drafts) == 0 && t.misspelt == 0 && t.inForce == nil {
			delete(c.entries[space{t.ref.Kind, t.ref.Namespace}], t.ref.Name)
		}
	}
	c.touched = nil
	return edits
}

// stir touches the applications that name a Secret which is touched.
func (c *Cache) stir() {
	for i := range c.touched {
		secret := c.touched[i].ref
		if secret.Kind != secretKind {
			continue
		}
		for _, d := range c.namers[secret.Namespace][secret.Name] {
			c.stirOne(d.object.Ref())
		}
	}
	// Of applications that are, or are going to be, in force as they were before,
	// the drafts may name others.
	for ref := range c.restored {
		c.stirRestored(ref, c.entry(ref))
	}
	for _, t := range c.touched {
		c.stirRestored(t.ref, t.entry)
	}
}

func (c *Cache) stirRestored(ref finding.Object, e *entry) {
	for _, secret := range secretsOf(e.inForce) {
		if s := c.entries[space{secret.Kind, secret.Namespace}][secret.Name]; s != nil && s.touched {
			c.stirOne(ref)
		}
	}
}

func (c *Cache) stirOne(application finding.Object) {
	e := c.entry(application)
	e.stirred = true
	c.touch(application, e)
}

// restricts reports whether the absence of an object may admit more.
func restricts(object Object) bool {
	switch object.(type) {
	case *APIBundle, *ManagedApplication, *Secret, *ManagedSubscription:
		return true
	}
	return false
}

// Broken returns Told's.
func (c *Cache) Broken() map[string][]string {
	broken := map[string][]string{}
	for _, r := range c.readings {
		for _, p := range r.telling {
			if p.notes != nil && len(p.notes.broken) > 0 {
				broken[r.file.Path] = append(broken[r.file.Path], p.notes.broken...)
			}
		}
	}
	return broken
}

// Told returns what there is to tell of all that was read.
func (c *Cache) Told() *Told {
	told := &Told{Broken: c.Broken()}
	for _, r := range c.readings {
		for _, p := range r.telling {
			c.tell(told, p)
		}
	}
	for ref, e := range c.crowded {
		if ref.Name == "" || ref.Kind == secretKind && !c.isNamed(ref) {
			continue
		}
		for _, d := range e.drafts[1:] {
			told.Findings = append(told.Findings, c.duplicate(d, e.drafts[0])...)
		}
	}
	for i, f := range told.Findings {
		if f.Severity == finding.Error && c.restored[f.Object] {
			told.Findings[i].Problem += "; the last good version of the object stays in force"
		}
	}
	told.Findings = finding.Sort(told.Findings)
	return told
}

func (c *Cache) tell(told *Told, p *piece) {
	if n := p.notes; n != nil {
		told.Comments = append(told.Comments, n.comments...)
		told.Findings = append(told.Findings, n.findings...)
		if !c.kustomized[filepath.Dir(p.of.file.Path)] {
			told.Findings = append(told.Findings, n.strays...)
		}
	}
	for _, d := range p.drafts {
		if ref := d.object.Ref(); ref.Kind != secretKind || c.isNamed(ref) {
			told.Findings = append(told.Findings, d.findings...)
		}
	}
}

// duplicate returns what is wrong with a draft because there is another one of
// its name before it.
func (c *Cache) duplicate(d, first *draft) []finding.Finding {
	source := d.object.source()
	file, line := first.object.source().Position()
	fix := "rename one of them, or take it out"
	if c.kustomized[filepath.Dir(file)] || c.kustomized[filepath.Dir(source.origin.file)] {
		fix = "if one is an overlay of the other, read what \"kustomize build\" makes of it instead of both"
	}
	check := checker{Source: source, findings: slices.Clone(d.findings)}
	check.fail(finding.Duplicate, "metadata.name",
		fmt.Sprintf("is the name of another %s of this namespace, at %s:%d, which is kept", source.object.Kind, file, line), "", fix)
	if a, ok := d.object.(*ManagedApplication); ok && !d.failed {
		check.plaintext(a)
	}
	return check.findings[len(d.findings):]
}

// loaded returns all that was read.
func (c *Cache) loaded() *Loaded {
	o := &Objects{LeftOut: map[finding.Object]bool{}}
	for in, names := range c.entries {
		for name, e := range names {
			ref := finding.Object{Kind: in.kind, Namespace: in.namespace, Name: name}
			object, leftOut := c.candidate(ref, e)
			if leftOut {
				o.LeftOut[ref] = true
			}
			o.add(object)
		}
	}
	o.sort()
	return &Loaded{Objects: o, Told: *c.Told()}
}

// settled reports whether a change of the file from now on shows in its size or
// times: those of two changes in a row may be the same.
func (f File) settled(now time.Time) bool {
	const tick = 2 * time.Second // of the coarsest file systems
	return !f.Modified.IsZero() && now.Sub(f.Modified) > tick && now.Sub(f.Changed) > tick
}

// open makes the loader ready for a file, of which before was read.
func (l *loader) open(path string, before *reading) {
	l.name, l.text, l.out, l.pieces, l.lines = path, nil, nil, nil, nil
	l.known = map[[sha256.Size]byte][]*piece{}
	if before != nil {
		for _, p := range before.pieces {
			l.known[p.sum] = append(l.known[p.sum], p)
		}
	}
}

package manifest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/key"
)

// MaxFileBytes is the size above which a file is not read.
const MaxFileBytes = 16 << 20

// defaultNamespace is that of objects which do not name one.
const defaultNamespace = "default"

// Objects are those that passed, each kind by namespace and name.
type Objects struct {
	APIs          []*API
	Versions      []*APIVersion
	Bundles       []*APIBundle
	Plans         []*APIPlan
	Applications  []*ManagedApplication
	Secrets       []*Secret
	Subscriptions []*ManagedSubscription

	// Those below grant nothing. The last two are of kinds that are no more,
	// which package migrate writes anew.
	CatalogItems []*APICatalogItem
	Auths        []*APIAuth
	Accesses     []*APIAccess
	RateLimits   []*APIRateLimit

	// LeftOut has the objects that findings took out.
	LeftOut map[finding.Object]bool
}

// Loaded is what files held.
type Loaded struct {
	Objects *Objects
	Told
}

// Told is what there is to tell of files beside their objects.
type Told struct {
	Findings []finding.Finding
	// Broken has, by file, what could not be read or parsed, so that nobody can
	// tell which objects are missing: each document by a hash of its text, the
	// file as WholeFile.
	Broken map[string][]string
	// Comments are those for Tollgate, of documents that could be parsed.
	Comments []Comment
}

// WholeFile stands in Told.Broken for a file of which nothing could be read.
const WholeFile = ""

// NotWhole says how many files are broken, as an error. It is nil if none is.
func (l *Told) NotWhole() error {
	switch n := len(l.Broken); n {
	case 0:
		return nil
	case 1:
		return errors.New("1 file cannot be read whole")
	default:
		return fmt.Errorf("%d files cannot be read whole", n)
	}
}

// Load reads files. It never fails: what cannot be used is left out, with a
// finding. Of two objects of one kind and name the first is kept, in the order
// of files and lines. When ctx ends it returns at once, with what it has so far.
func Load(ctx context.Context, files []File) *Loaded {
	c := NewCache()
	c.Read(ctx, files)
	return c.loaded()
}

// Parse reads what one file of that name would hold.
func Parse(name string, data []byte) *Loaded {
	return ParseAll(context.Background(), []Text{{name, data}})
}

// Text is what a file of that name would hold.
type Text struct {
	Name string
	Data []byte
}

// ParseAll is Load for texts that come from elsewhere.
func ParseAll(ctx context.Context, texts []Text) *Loaded {
	files := make([]File, len(texts))
	for i, t := range texts {
		files[i].Path = t.Name
	}
	c := NewCache()
	c.read(ctx, files, func(l *loader, i int) error {
		l.data(texts[i].Data)
		return nil
	})
	return c.loaded()
}

// loader reads one file at a time, each by itself: what objects of several files
// do to each other is for Cache.
type loader struct {
	name string // of the file being read
	text []byte // of the chunk being read; nil before the first
	// aliased counts the nodes that the document being read made of aliases;
	// isAlias says whether the object being read is one.
	aliased int
	isAlias bool
	pieces  []*piece
	lines   []int                          // of the file before each
	out     *piece                         // the last one, being filled
	known   map[[sha256.Size]byte][]*piece // that the file had before
	shared  *shared
	fields  []field // room for those of the object being read
}

// piece is what one chunk of a file held, or what is wrong with the whole file.
// Cache owns it once it is read.
type piece struct {
	sum    [sha256.Size]byte
	origin *origin
	of     *reading
	drafts []*draft
	notes  *notes // nil for none
}

// notes are what there is to tell of a piece beside its drafts.
type notes struct {
	// misspelt are objects whose kind is misspelt, as what they were meant for.
	misspelt []finding.Object
	// strays are findings about what nobody minds beside a kustomization; findings
	// has the others.
	findings, strays []finding.Finding
	broken           []string // as in Told.Broken
	comments         []Comment
}

// note returns the notes of a piece, to be added to.
func (p *piece) note() *notes {
	if p.notes == nil {
		p.notes = &notes{}
	}
	return p.notes
}

func (p *piece) misspelt() []finding.Object {
	if p.notes == nil {
		return nil
	}
	return p.notes.misspelt
}

// draft is an object as its document has it, whatever others there are.
type draft struct {
	object   Object
	of       *piece
	place    int               // among the drafts of the piece
	findings []finding.Finding // about the object alone
	failed   bool              // they leave it out
}

// Object is what the objects of all kinds have in common.
type Object interface {
	metav1.Object
	Ref() finding.Object
	source() *Source
}

// begin makes a new piece the one that is being filled.
func (l *loader) begin(sum [sha256.Size]byte, lineOffset int) {
	l.out = &piece{sum: sum, origin: &origin{file: l.name, lines: lineOffset}}
	l.pieces, l.lines = append(l.pieces, l.out), append(l.lines, lineOffset)
}

// again takes over a piece that the file had before, if it stands for a text of
// that hash. On other lines than it did it can only be used if there is nothing to
// tell of it: findings and comments know theirs.
func (l *loader) again(sum [sha256.Size]byte, lineOffset int) bool {
	for i, p := range l.known[sum] {
		if p.origin.lines == lineOffset || !p.tells() {
			l.known[sum] = slices.Delete(l.known[sum], i, i+1)
			l.pieces, l.lines = append(l.pieces, p), append(l.lines, lineOffset)
			return true
		}
	}
	return false
}

// tells reports whether there is anything to tell of a piece.
func (p *piece) tells() bool {
	return p.notes != nil || slices.ContainsFunc(p.drafts, func(d *draft) bool { return len(d.findings) > 0 })
}

// isKustomization tells the file by which Kustomize composes manifests. It is no
// manifest itself.
func isKustomization(path string) bool {
	name, ok := strings.CutSuffix(path, "kustomization.yaml")
	if !ok {
		name, ok = strings.CutSuffix(path, "kustomization.yml")
	}
	return ok && (name == "" || os.IsPathSeparator(name[len(name)-1]))
}

// add appends an object to those of its kind.
func (o *Objects) add(object Object) {
	switch object := object.(type) {
	case *API:
		o.APIs = append(o.APIs, object)
	case *APIVersion:
		o.Versions = append(o.Versions, object)
	case *APIBundle:
		o.Bundles = append(o.Bundles, object)
	case *APIPlan:
		o.Plans = append(o.Plans, object)
	case *ManagedApplication:
		o.Applications = append(o.Applications, object)
	case *Secret:
		o.Secrets = append(o.Secrets, object)
	case *ManagedSubscription:
		o.Subscriptions = append(o.Subscriptions, object)
	case *APICatalogItem:
		o.CatalogItems = append(o.CatalogItems, object)
	case *APIAuth:
		o.Auths = append(o.Auths, object)
	case *APIAccess:
		o.Accesses = append(o.Accesses, object)
	case *APIRateLimit:
		o.RateLimits = append(o.RateLimits, object)
	}
}

func (o *Objects) sort() {
	sortByName(o.APIs)
	sortByName(o.Versions)
	sortByName(o.Bundles)
	sortByName(o.Plans)
	sortByName(o.Applications)
	sortByName(o.Secrets)
	sortByName(o.Subscriptions)
	sortByName(o.CatalogItems)
	sortByName(o.Auths)
	sortByName(o.Accesses)
	sortByName(o.RateLimits)
}

func sortByName[T metav1.Object](objects []T) {
	slices.SortFunc(objects, func(a, b T) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
}

func (l *loader) broken(rule finding.Rule, line int, problem, allowed, fix string) {
	identity := WholeFile
	if l.text != nil {
		sum := sha256.Sum256(bytes.TrimSpace(bytes.TrimPrefix(l.text, []byte("---"))))
		identity = hex.EncodeToString(sum[:])
	}
	notes := l.out.note()
	notes.broken = append(notes.broken, identity)
	column := 0
	if line > 0 {
		column = 1
	}
	notes.findings = append(notes.findings, finding.Finding{
		Rule: rule, Severity: finding.Error, File: l.name, Line: line, Column: column,
		Problem: problem, Allowed: allowed, Fix: fix,
	})
}

func (l *loader) file() error {
	// A pipe that nobody writes to would block for ever.
	f, err := os.OpenFile(l.name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		defer f.Close()
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, MaxFileBytes+1)); err == nil {
			l.data(data)
			return nil
		}
	}
	l.whole("cannot be read: "+reason(err), "", "")
	return err
}

// whole reports that nothing of the file can be used.
func (l *loader) whole(problem, allowed, fix string) {
	l.begin([sha256.Size]byte{}, 0)
	l.broken(finding.File, 0, problem, allowed, fix)
}

// reason drops what the finding says already: the operation and the path.
func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}

func (l *loader) data(data []byte) {
	if len(data) > MaxFileBytes {
		l.whole("is too large", fmt.Sprintf("at most %d MiB", MaxFileBytes>>20), "split it into several files")
		return
	}
	if isKustomization(l.name) {
		return
	}
	if !utf8.Valid(data) {
		l.whole("is not UTF-8 text", "", "save it as UTF-8")
		return
	}
	if strings.HasSuffix(l.name, ".json") {
		l.json(data)
		return
	}
	var preamble chunk
	for i, c := range split(data) {
		switch {
		case !isPreamble(c.text):
			if sum := c.sum(preamble); !l.again(sum, c.lineOffset) {
				l.begin(sum, c.lineOffset)
				l.chunk(preamble, c)
			}
			preamble = chunk{}
		case i == 0:
			preamble = c
		}
	}
}

// json reads data as the YAML that JSON nearly is.
func (l *loader) json(data []byte) {
	sum := sha256.Sum256(data)
	if l.again(sum, 0) {
		return
	}
	l.begin(sum, 0)
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	l.text = data
	var whole json.RawMessage
	var syntax *json.SyntaxError
	if err := json.Unmarshal(data, &whole); errors.As(err, &syntax) {
		line := 1 + bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n"))
		l.broken(finding.Syntax, line, "the document cannot be parsed: "+err.Error(), "", "")
		return
	}
	l.chunk(chunk{}, chunk{text: unescapeJSON(data)})
}

// unescapeJSON writes out the two escapes of JSON that YAML lacks: the slash,
// and characters in two halves. It adds and takes no lines.
func unescapeJSON(data []byte) []byte {
	out := make([]byte, 0, len(data))
	for len(data) > 0 {
		i := bytes.IndexByte(data, '\\')
		if i < 0 {
			break
		}
		out = append(out, data[:i]...)
		data = data[i:]
		if r := surrogates(data); r != 0 {
			out = utf8.AppendRune(out, r)
			data = data[12:]
			continue
		}
		if data[1] != '/' {
			out = append(out, '\\')
		}
		out = append(out, data[1])
		data = data[2:]
	}
	return append(out, data...)
}

// surrogates returns the character that data begins with in the form
// \ud83d\ude00, or 0.
func surrogates(data []byte) rune {
	if len(data) < 12 || data[1] != 'u' || data[6] != '\\' || data[7] != 'u' {
		return 0
	}
	high, err1 := strconv.ParseUint(string(data[2:6]), 16, 32)
	low, err2 := strconv.ParseUint(string(data[8:12]), 16, 32)
	r := utf16.DecodeRune(rune(high), rune(low))
	if err1 != nil || err2 != nil || r == unicode.ReplacementChar {
		return 0
	}
	return r
}

// chunk is the part of a file from one document marker to the next.
type chunk struct {
	text       []byte
	lineOffset int // lines before it
}

// sum hashes a chunk and the preamble above it.
func (c chunk) sum(preamble chunk) (sum [sha256.Size]byte) {
	h := sha256.New()
	h.Write(strconv.AppendInt(nil, int64(len(preamble.text)), 10))
	h.Write([]byte{' '})
	h.Write(preamble.text)
	h.Write(c.text)
	h.Sum(sum[:0])
	return sum
}

// split cuts data before each line that begins with "---", so that a document
// that cannot be parsed takes no other down. YAML allows no such line inside of
// a document, not even in a block of text.
func split(data []byte) []chunk {
	var chunks []chunk
	start, startLine, line := 0, 0, 0
	for at := 0; at < len(data); line++ {
		if at > start && isMarker(data[at:]) {
			chunks = append(chunks, chunk{data[start:at], startLine})
			start, startLine = at, line
		}
		next := bytes.IndexByte(data[at:], '\n')
		if next < 0 {
			break
		}
		at += next + 1
	}
	return append(chunks, chunk{data[start:], startLine})
}

func isMarker(line []byte) bool {
	if !bytes.HasPrefix(line, []byte("---")) {
		return false
	}
	return len(line) == 3 || strings.IndexByte(" \t\r\n", line[3]) >= 0
}

// isPreamble reports whether text has nothing but directives, comments and empty
// lines, as before the first marker.
func isPreamble(text []byte) bool {
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '%' && line[0] != '#' {
			return false
		}
	}
	return true
}

// chunk takes in the documents of a chunk, above which is a preamble.
func (l *loader) chunk(preamble, c chunk) {
	l.text = c.text
	decode := yaml.NewDecoder(bytes.NewReader(c.text))
	var documents []*yaml.Node
	for {
		var doc yaml.Node
		err := decode.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			l.syntax(c, err)
			return
		}
		if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
			documents = append(documents, doc.Content[0])
			l.aliased, l.isAlias = 0, false
			l.document(doc.Content[0], c.lineOffset)
		}
	}
	if bytes.Contains(preamble.text, []byte(commentMark)) || bytes.Contains(c.text, []byte(commentMark)) {
		l.comments(preamble, c, documents)
	}
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// syntax reports that a chunk is no YAML. The parser's words are not repeated
// where they could quote the text: after a colon or in quotes.
func (l *loader) syntax(c chunk, err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line := c.lineOffset + 1
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1]) // \d+ of a line count: cannot fail
		line = c.lineOffset + n
		text = text[len(m[0]):]
	}
	text, _, _ = strings.Cut(text, "'")
	fix := ""
	if n := tabbedLine(c.text); n > 0 {
		line, text, fix = c.lineOffset+n, "a tab is used to indent", "YAML indents with spaces only"
	}
	l.broken(finding.Syntax, line, "the document cannot be parsed: "+strings.TrimSpace(text), "", fix)
}

// tabbedLine returns the first line of text that a tab indents, from 1, or 0.
func tabbedLine(text []byte) int {
	for i, line := range bytes.Split(text, []byte("\n")) {
		indent := line[:len(line)-len(bytes.TrimLeft(line, " \t"))]
		if bytes.IndexByte(indent, '\t') >= 0 && len(bytes.TrimSpace(line)) > 0 {
			return i + 1
		}
	}
	return 0
}

// document takes in what a document holds: an object, a List of objects, or
// something that is not ours, which it passes over.
func (l *loader) document(n *yaml.Node, lineOffset int) {
	n = deref(n)
	if isNull(n) {
		return
	}
	apiVersion, kind := text(member(n, "apiVersion")), text(member(n, "kind"))
	group, version, _ := strings.Cut(apiVersion, "/")
	switch {
	case (apiVersion == "" || kind == "") && mergesType(n):
		l.report(n, lineOffset, finding.Resource, finding.Error, finding.Object{},
			"the document has its apiVersion or kind by a merge key, so it is left out", "", "write both in the object itself")
	case apiVersion == "v1" && kind == "List":
		l.list(n, lineOffset, "", "")
	case (group == Group || apiVersion == "v1" && kind == "SecretList") && strings.HasSuffix(kind, "List"):
		l.list(n, lineOffset, apiVersion, strings.TrimSuffix(kind, "List"))
	case apiVersion == "v1" && kind == "Secret":
		take(l, n, lineOffset, func(*checker, *Secret) {})
	case group == Group:
		l.ours(n, lineOffset, version, kind)
	case apiVersion+kind == "" && strings.HasPrefix(text(member(n, "key")), key.Prefix):
		l.report(member(n, "key"), lineOffset, finding.PlaintextKey, finding.Error, finding.Object{}, "is a key in plain text, as \"tollgate key new\" prints it",
			"", "keep only the documents below it, and replace the key if others have seen the file")
	case n.Kind != yaml.MappingNode || member(n, "apiVersion") == nil && member(n, "kind") == nil && member(n, "metadata") == nil:
		// Patches and the like stand beside a kustomization.
		l.stray(n, lineOffset, "the document is no Kubernetes object, so it is passed over")
	case group != Group && editDistance(strings.ToLower(group), Group) <= 2:
		l.report(n, lineOffset, finding.UnknownKind, finding.Warning,
			finding.Object{Kind: kind, Namespace: namespaceOf(n), Name: text(member(member(n, "metadata"), "name"))},
			"is of an unknown group, so it is passed over", "apiVersion "+Group+"/"+Version, "")
	case apiVersion+kind == "" && member(n, "spec") != nil:
		l.stray(n, lineOffset, "the document has neither apiVersion nor kind, so it is passed over")
	case apiVersion == "" || kind == "":
		// Only what looks like an object that lacks something is worth a word.
		if apiVersion+kind != "" && member(n, "metadata") != nil {
			l.report(n, lineOffset, finding.Resource, finding.Error, finding.Object{Kind: kind, Name: text(member(member(n, "metadata"), "name"))},
				"has no apiVersion or no kind, so it is left out", "", "write both")
		}
	}
}

func (l *loader) report(n *yaml.Node, lineOffset int, rule finding.Rule, severity finding.Severity, object finding.Object, problem, allowed, fix string) {
	notes := l.out.note()
	notes.findings = append(notes.findings, finding.Finding{
		Rule: rule, Severity: severity, File: l.name, Line: n.Line + lineOffset, Column: n.Column, Object: object,
		Problem: problem, Allowed: allowed, Fix: fix,
	})
}

// stray reports a document that may be a patch, which stands beside a
// kustomization.
func (l *loader) stray(n *yaml.Node, lineOffset int, problem string) {
	notes := l.out.note()
	notes.strays = append(notes.strays, finding.Finding{
		Rule: finding.UnknownKind, Severity: finding.Warning, File: l.name, Line: n.Line + lineOffset, Column: n.Column,
		Problem: problem, Allowed: "a mapping with apiVersion, kind and metadata",
	})
}

// list takes in the items of a list. In a list of one kind they need not say what
// they are.
func (l *loader) list(n *yaml.Node, lineOffset int, apiVersion, kind string) {
	items := member(n, "items")
	if items == nil || items.Kind != yaml.SequenceNode {
		if member(n, "spec") != nil {
			l.report(n, lineOffset, finding.UnknownKind, finding.Warning, finding.Object{Kind: text(member(n, "kind"))},
				"is a list without items, so it is passed over", "", "write items, or the kind of one object")
		}
		return
	}
	all := isAlias(n, "items")
	for _, item := range items.Content {
		l.isAlias = all || item.Kind == yaml.AliasNode
		item = deref(item)
		// A list in a list of one kind is nobody's, nor is a List in a List;
		// passing them over bounds the depth.
		own := text(member(item, "kind"))
		if own == "List" || kind != "" && strings.HasSuffix(own, "List") {
			l.report(item, lineOffset, finding.UnknownKind, finding.Warning, finding.Object{Kind: own}, "is a list in a list, so it is passed over",
				"", "write its items in the outer list")
			continue
		}
		if kind != "" && item.Kind == yaml.MappingNode && member(item, "apiVersion") == nil && own == "" {
			item.Content = append([]*yaml.Node{word(item, "apiVersion"), word(item, apiVersion), word(item, "kind"), word(item, kind)}, item.Content...)
		}
		l.document(item, lineOffset)
	}
}

// word is a string that stands where a node does.
func word(at *yaml.Node, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value, Line: at.Line, Column: at.Column}
}

func (l *loader) ours(n *yaml.Node, lineOffset int, version, kind string) {
	object := finding.Object{Kind: kind, Namespace: namespaceOf(n), Name: text(member(member(n, "metadata"), "name"))}
	if version != Version {
		l.report(n, lineOffset, finding.UnknownKind, finding.Warning, object, "is of an unknown version, so it is passed over",
			"apiVersion "+Group+"/"+Version, "")
		return
	}
	switch kind {
	case "API":
		take(l, n, lineOffset, (*checker).api)
	case "APIVersion":
		take(l, n, lineOffset, (*checker).apiVersion)
	case "APIBundle":
		take(l, n, lineOffset, (*checker).apiBundle)
	case "APIPlan":
		take(l, n, lineOffset, (*checker).apiPlan)
	case "ManagedApplication":
		take(l, n, lineOffset, (*checker).managedApplication)
	case "ManagedSubscription":
		take(l, n, lineOffset, (*checker).managedSubscription)
	case "APICatalogItem":
		take(l, n, lineOffset, (*checker).apiCatalogItem)
	case "APIAuth":
		take(l, n, lineOffset, func(*checker, *APIAuth) {})
	case "APIAccess":
		take(l, n, lineOffset, (*checker).apiAccess)
	case "APIRateLimit":
		take(l, n, lineOffset, (*checker).apiRateLimit)
	default:
		l.unused(n, lineOffset, object)
	}
}

// unused reports on an object of our group that does nothing here.
func (l *loader) unused(n *yaml.Node, lineOffset int, object finding.Object) {
	if passedOver[object.Kind] {
		return
	}
	if fix, ok := replaced[object.Kind]; ok {
		l.report(n, lineOffset, finding.Deprecated, finding.Warning, object, "is of a kind that is no more, so it is passed over", "", fix)
		return
	}
	kinds := []string{"API", "APIVersion", "APIBundle", "APIPlan", "ManagedApplication", "ManagedSubscription", "APICatalogItem", "APIAuth"}
	if name := Nearest(object.Kind, kinds); name != "" {
		// What was meant may restrict others.
		notes := l.out.note()
		notes.misspelt = append(notes.misspelt, finding.Object{Kind: name, Namespace: object.Namespace, Name: object.Name})
		l.report(n, lineOffset, finding.UnknownKind, finding.Error, object, "is of an unknown kind, so it is left out",
			strings.Join(kinds, ", "), fmt.Sprintf("did you mean %q?", name))
		return
	}
	l.report(n, lineOffset, finding.UnknownKind, finding.Warning, object, "is of an unknown kind, so it is passed over",
		strings.Join(kinds, ", "), "")
}

// object is an Object of the kind T.
type object[T any] interface {
	*T
	Object
}

func (s *Source) source() *Source { return s }

// take decodes and checks one object, and notes it as a draft.
func take[T any, P object[T]](l *loader, n *yaml.Node, lineOffset int, check func(*checker, P)) {
	if err := checkSize(n, l.isAlias, &l.aliased); err != nil {
		l.broken(finding.Syntax, n.Line+lineOffset, "the document cannot be read: "+err.Error(),
			fmt.Sprintf("at most %d nodes through aliases and %d levels", maxAliased, maxDepth), "write it out")
		return
	}
	var value P = new(T)
	d := decoder{lineOffset: lineOffset, firstLine: n.Line, shared: l.shared, fields: l.fields[:0]}
	d.note(n)
	d.value(n, reflect.ValueOf(value).Elem())
	l.fields = d.fields

	// An object is named by what was decoded: YAML has more ways to write a name
	// than as a string in the mapping itself.
	ref := finding.Object{Kind: l.shared.word(text(member(n, "kind"))), Namespace: cmp.Or(value.GetNamespace(), defaultNamespace), Name: value.GetName()}
	value.SetNamespace(ref.Namespace)
	source := value.source()
	*source = Source{origin: l.out.origin, object: ref, line: int32(n.Line), fields: l.shared.layout(d.fields)}

	c := checker{Source: source, failed: len(d.misfits) > 0}
	for _, m := range d.misfits {
		c.findings = append(c.findings, finding.Finding{
			Rule: m.rule, Severity: finding.Error, File: l.name, Line: m.line, Column: m.column, Object: ref,
			Field: m.path, Problem: m.problem, Allowed: m.allowed, Fix: m.fix,
		})
	}
	c.unless(d.misfits, func() {
		c.name("metadata.name", value.GetName())
		c.namespace(ref.Namespace)
	})
	c.unless(d.misfits, func() { check(&c, value) })
	if a, ok := any(value).(*ManagedApplication); ok && c.failed {
		c.plaintext(a)
	}
	l.out.drafts = append(l.out.drafts, &draft{
		object: value, of: l.out, place: len(l.out.drafts), findings: c.most(),
		// What comes next tells objects apart by their names.
		failed: c.failed || ref.Name == "",
	})
}

func namespaceOf(n *yaml.Node) string {
	if ns := text(member(member(n, "metadata"), "namespace")); ns != "" {
		return ns
	}
	return defaultNamespace
}

// member returns the value that a mapping has under name, or nil.
func member(n *yaml.Node, name string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return deref(n.Content[i+1])
		}
	}
	return nil
}

// isAlias reports whether the value that a mapping has under name is an alias.
func isAlias(n *yaml.Node, name string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1].Kind == yaml.AliasNode
		}
	}
	return false
}

// mergesType reports whether merge keys may give a mapping its apiVersion or kind.
func mergesType(n *yaml.Node) bool {
	if n.Kind != yaml.MappingNode {
		return false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].ShortTag() != "!!merge" {
			continue
		}
		sources := []*yaml.Node{deref(n.Content[i+1])}
		if sources[0].Kind == yaml.SequenceNode {
			sources = sources[0].Content
		}
		for _, s := range sources {
			if s = deref(s); member(s, "apiVersion") != nil || member(s, "kind") != nil || member(s, "<<") != nil {
				return true
			}
		}
	}
	return false
}

// text returns the value of a string, or "".
func text(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		return ""
	}
	return n.Value
}

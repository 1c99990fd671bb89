package finding

import (
	"encoding/json"
	"regexp"
	"strings"
	"unicode"
)

// secretive is what may be a key or a digest.
var secretive = regexp.MustCompile(`tg_[0-9A-Za-z]{8,}|[0-9A-Fa-f]{32,}`)

// Mask shortens what may be a key or a digest, wherever it stands, and makes one
// line of text.
func Mask(text string) string {
	text = secretive.ReplaceAllStringFunc(text, func(s string) string { return s[:6] + "…" })
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// masked returns the object as it may be shown. The Object itself stays as it
// is, so that it can be looked up.
func (o Object) masked() Object {
	return Object{Mask(o.Kind), Mask(o.Namespace), Mask(o.Name)}
}

// MarshalJSON writes the object, masked.
func (o Object) MarshalJSON() ([]byte, error) {
	type plain Object
	return json.Marshal(plain(o.masked()))
}

// masked returns the finding with its texts masked; those of its object are when
// it is shown.
func (f Finding) masked() Finding {
	f.Field, f.Problem, f.Allowed, f.Fix = Mask(f.Field), Mask(f.Problem), Mask(f.Allowed), Mask(f.Fix)
	return f
}

package compile

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// pool is the objects of one kind in one namespace, to be selected from. An
// object is meant by its place in objects.
type pool[T metav1.Object] struct {
	objects []T
	byName  map[string]int
	// Places by label, made when first asked for: selectors look at the objects
	// that have the label, not at all of them.
	byKey   map[string][]int
	byLabel map[label][]int
}

type label struct{ key, value string }

func newPool[T metav1.Object](objects []T) *pool[T] {
	p := &pool[T]{objects: objects, byName: make(map[string]int, len(objects))}
	for i, o := range objects {
		p.byName[o.GetName()] = i
	}
	return p
}

func (p *pool[T]) index() {
	if p.byKey != nil {
		return
	}
	p.byKey, p.byLabel = map[string][]int{}, map[label][]int{}
	for i, o := range p.objects {
		for k, v := range o.GetLabels() {
			p.byKey[k] = append(p.byKey[k], i)
			p.byLabel[label{k, v}] = append(p.byLabel[label{k, v}], i)
		}
	}
}

// selects returns the places of what s selects, in order: nothing for nil,
// everything for an empty selector.
func (p *pool[T]) selects(s *metav1.LabelSelector) []int {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil // the loader lets none pass
	}
	requirements, ok := selector.Requirements()
	if !ok {
		return nil
	}
	p.index()
	var selected []int
	for _, i := range p.narrow(requirements) {
		if selector.Matches(labels.Set(p.objects[i].GetLabels())) {
			selected = append(selected, i)
		}
	}
	return selected
}

// narrow returns places, in order, among which are all that meet requirements:
// those of the requirement that the fewest meet.
func (p *pool[T]) narrow(requirements labels.Requirements) []int {
	var best []int
	narrowed := false
	for _, r := range requirements {
		var places []int
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			for value := range r.Values() {
				places = append(places, p.byLabel[label{r.Key(), value}]...)
			}
		case selection.Exists:
			places = p.byKey[r.Key()]
		default:
			continue // what an object lacks is not in the index
		}
		if !narrowed || len(places) < len(best) {
			best, narrowed = places, true
		}
	}
	if narrowed {
		best = slices.Clone(best)
		slices.Sort(best)
		return best
	}
	best = make([]int, len(p.objects))
	for i := range best {
		best[i] = i
	}
	return best
}

// at returns the objects at places.
func (p *pool[T]) at(places []int) []T {
	objects := make([]T, len(places))
	for i, place := range places {
		objects[i] = p.objects[place]
	}
	return objects
}

// union sorts places and drops what is there twice.
func union(places []int) []int {
	slices.Sort(places)
	return slices.Compact(places)
}

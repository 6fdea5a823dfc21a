package messages

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// NoTemplate is the refusal of a template's name that none of all templates has. It names those that may have been meant.
func NoTemplate(name string, all []string) error {
	if len(all) == 0 {
		return Errorf(NotFound, "there is no template %q, nor any other: an operator makes one with `jetway template put`", name)
	}
	near := nearest(name, all)
	if len(near) == 0 {
		return Errorf(NotFound, "there is no template %q among %d", name, len(all))
	}
	for i := range near {
		near[i] = fmt.Sprintf("%q", near[i])
	}
	return Errorf(NotFound, "there is no template %q; there is %s", name, strings.Join(near, ", "))
}

// nearest are up to three names that are like one: that differ from it in two letters or a third of them, or begin as it does.
func nearest(name string, all []string) (near []string) {
	distance := make(map[string]int, len(all))
	for _, other := range all {
		d := Distance(name, other)
		if strings.HasPrefix(other, name) || strings.HasPrefix(name, other) {
			d = 1
		}
		if d <= max(2, len(name)/3) {
			distance[other] = d
			near = append(near, other)
		}
	}
	slices.SortStableFunc(near, func(a, b string) int { return cmp.Compare(distance[a], distance[b]) })
	return near[:min(len(near), 3)]
}

// Distance is how many letters have to be put in, left out or exchanged to make b of a.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0] // of the row before
		row[0] = i + 1
		for j := range len(b) {
			above := row[j+1]
			substitute := corner
			if a[i] != b[j] {
				substitute++
			}
			row[j+1] = min(above+1, row[j]+1, substitute)
			corner = above
		}
	}
	return row[len(b)]
}

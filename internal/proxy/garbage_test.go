package proxy

import "testing"

// What upgrades leave is collected when it is much for what is open, and not each time that some come and go.
func TestManyMore(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		before, open int64
		want         bool
	}{
		{0, 0, false}, {0, 255, false}, {0, 256, true}, {900, 1000, false}, {8000, 9000, false}, {8000, 10667, true}, {500, 10, false},
	} {
		equal(t, "of a change", manyMore(c.before, c.open), c.want)
	}
}

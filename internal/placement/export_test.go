package placement

// Given is how many were handed out to a drone since it spoke.
func (s *Snapshot) Given(d *Drone) (n int) {
	for _, by := range s.given[d] {
		n += by
	}
	return n
}

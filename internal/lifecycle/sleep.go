package lifecycle

import "github.com/jetway-project/jetway/messages"

// Sleep has one number, the nap: it rises with each change, and whether it is odd says whether the backend is to be asleep. So a drone that
// applies only greater naps ends up with the last one, in whatever order they reach it.
//
// When in doubt, awake: what the drone says can wake a backend, and never put it to sleep.

// SleepAsked is the wish to put a backend to sleep, which holds for what is ready and not to end.
type SleepAsked struct{}

// WakeAsked is the wish to wake it.
type WakeAsked struct{}

func (SleepAsked) event() {}
func (WakeAsked) event()  {}

// Asleep says whether the backend is to be asleep.
func (b *Backend) Asleep() bool { return messages.AsleepAt(b.Nap) }

// MaySleep says whether it may be put to sleep.
func (b *Backend) MaySleep() bool { return b.Status == messages.Ready && b.Asked == NotAsked }

// turn goes on to the next nap, of which the drone is told.
func (b *Backend) turn(a *Actions) {
	b.Nap++
	b.ReclaimedBytes = 0
	a.Nap = true
}

// wakeUnsaid is for what ends: its drone knows, or is gone, and the state says it.
func (b *Backend) wakeUnsaid() {
	if b.Asleep() {
		b.Nap++
	}
}

// napSaid takes in what the drone says of its sleep.
func (b *Backend) napSaid(said messages.Nap, a *Actions) {
	if !b.MaySleep() {
		return
	}
	switch {
	case said.Nap == 0 || said.Nap < b.Nap: // what it is to do is on its way
	case said.Nap > b.Nap:
		// The database has forgotten naps, as after a restore. The next one has to be greater than what the drone has applied.
		doubt := b.Asleep() || messages.AsleepAt(said.Nap)
		b.Nap = said.Nap
		switch {
		case b.Asleep():
			b.turn(a)
		case doubt: // it is awake already, and who watches is told
			b.Nap++
			b.turn(a)
		}
	case b.Asleep() && !said.Asleep:
		b.turn(a) // the drone woke it
	case b.Asleep():
		b.ReclaimedBytes = said.ReclaimedBytes
	}
}

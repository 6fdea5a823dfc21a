package process

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// users are whom backends run as: one user for all, one of a range for each, or, as the
// nil users, whom the agent runs as.
type users struct {
	first, last, group uint32
	// groupOfItsOwn: each has the group with its own number.
	groupOfItsOwn bool

	mu   sync.Mutex
	next uint32
	used map[uint32]bool
}

// nobodyElse is the user of a backend that runs as the agent does.
const nobodyElse = -1

// parseUsers reads a name, a number, or a range FIRST-LAST of numbers.
func parseUsers(text string) (*users, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // the nil users are the agent's own
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("only an agent that runs as root can start processes of other users; start it so, or leave the backends its own user")
	}
	const wanted = "give the name or number of one user, or a range of numbers for a user each, such as 200000-265535"
	if first, last, isRange := strings.Cut(text, "-"); isRange {
		from, fromErr := strconv.ParseUint(first, 10, 31)
		to, toErr := strconv.ParseUint(last, 10, 31)
		if fromErr == nil && toErr == nil {
			if from == 0 || to < from {
				return nil, fmt.Errorf("%q is no range of users without root; %s", text, wanted)
			}
			return &users{first: uint32(from), last: uint32(to), groupOfItsOwn: true, next: uint32(from), used: map[uint32]bool{}}, nil
		}
	}
	found, err := user.Lookup(text)
	if err != nil {
		if found, err = user.LookupId(text); err != nil {
			return nil, fmt.Errorf("there is no user %.80q on this machine; %s", text, wanted)
		}
	}
	id, err := strconv.ParseUint(found.Uid, 10, 31)
	group, groupErr := strconv.ParseUint(found.Gid, 10, 31)
	if err = errors.Join(err, groupErr); err != nil {
		return nil, err
	}
	if id == 0 {
		return nil, errors.New("root may do all that the agent may; give another user")
	}
	return &users{first: uint32(id), last: uint32(id), group: uint32(group)}, nil
}

// take gives a user that no backend has, or the one that all have. It stays taken until
// release.
func (u *users) take() (int, error) {
	if u == nil {
		return nobodyElse, nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.groupOfItsOwn {
		return int(u.first), nil
	}
	for range u.last - u.first + 1 {
		id := u.next
		if u.next++; u.next > u.last {
			u.next = u.first
		}
		if !u.used[id] {
			u.used[id] = true
			return int(id), nil
		}
	}
	return 0, fmt.Errorf("every user from %d to %d runs a backend; give the drone a larger range with --process-user", u.first, u.last)
}

// use notes that a backend has the user already.
func (u *users) use(id int) {
	if u == nil || id == nobodyElse {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.groupOfItsOwn {
		u.used[uint32(id)] = true
	}
}

func (u *users) release(id int) {
	if u == nil || id == nobodyElse {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.used, uint32(id))
}

// groupOf is the group that goes with a user.
func (u *users) groupOf(id int) int {
	if u.groupOfItsOwn {
		return id
	}
	return int(u.group)
}

// credential is what a process of the user starts with: no further groups.
func (u *users) credential(id int) *syscall.Credential {
	if u == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(id), Gid: uint32(u.groupOf(id))}
}

// own gives files to a backend's user.
func (u *users) own(id int, paths ...string) error {
	if u == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Lchown(path, id, u.groupOf(id)); err != nil {
			return err
		}
	}
	return nil
}

// reach says whether other users can get to a directory.
func (u *users) reach(dir string) error {
	for at := dir; u != nil; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return fmt.Errorf("%s is closed to other users, so those of --process-user cannot reach %s; open it with chmod o+x", at, dir)
		}
		if at == filepath.Dir(at) {
			break
		}
	}
	return nil
}

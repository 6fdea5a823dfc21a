package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/jetway-project/jetway/internal/boottime"
)

// The ledger is a row of slots of slotSize bytes. The first is the header, each of the
// others is free, which is all zero, or has one lease. All numbers are little-endian.
//
//	 0  checksum of the rest of the slot
//	 4  length of the text at textAt
//	 8  header: length of the text at bootAt; lease: number of the process, 0: not known yet
//	16  lease: start of the process, in clock ticks since boot
//	24  lease: soft deadline, ms since boot
//	32  lease: hard deadline, ms since boot
//	40  header: magic
//	48  lease: the backend's id; header: the drone's name
//	96  header: one more text of bootSize: see there
const (
	slotSize = 128 // divides the size of a page
	lengthAt = 4
	pidAt    = 8
	startAt  = 16
	softAt   = 24
	hardAt   = 32
	magicAt  = 40
	textAt   = 48
	textSize = 48 // messages.MaxBackendID and some
	bootAt   = 96
	bootSize = 32 // the id of a boot is a UUID; its 32 digits
)

const magic = "jetway1\n"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn says that a slot's checksum does not fit.
var errTorn = errors.New("half written")

// Lease is what the ledger knows of one backend.
type Lease struct {
	BackendID string
	// PID is the process on this machine whose end is the backend's and which leads its
	// process group, as in runtime.Instance; 0: not known (yet).
	PID int
	// SoftAtMS and HardAtMS are the deadlines, in ms since boot.
	SoftAtMS, HardAtMS int64

	start uint64 // of the process
}

func encode(slot []byte, lease Lease) {
	clear(slot)
	slot[lengthAt] = byte(copy(slot[textAt:textAt+textSize], lease.BackendID))
	binary.LittleEndian.PutUint64(slot[pidAt:], uint64(lease.PID))
	binary.LittleEndian.PutUint64(slot[startAt:], lease.start)
	binary.LittleEndian.PutUint64(slot[softAt:], uint64(lease.SoftAtMS))
	binary.LittleEndian.PutUint64(slot[hardAt:], uint64(lease.HardAtMS))
	seal(slot)
}

func seal(slot []byte) {
	binary.LittleEndian.PutUint32(slot, crc32.Checksum(slot[lengthAt:], castagnoli))
}

// decode reads a slot: used is false of a free one.
func decode(slot []byte) (lease Lease, used bool, err error) {
	var free [slotSize]byte
	if bytes.Equal(slot, free[:]) {
		return lease, false, nil
	}
	length := int(slot[lengthAt])
	if binary.LittleEndian.Uint32(slot) != crc32.Checksum(slot[lengthAt:], castagnoli) || length > textSize {
		return lease, false, errTorn
	}
	return Lease{
		BackendID: string(slot[textAt : textAt+length]),
		PID:       int(binary.LittleEndian.Uint64(slot[pidAt:])),
		SoftAtMS:  int64(binary.LittleEndian.Uint64(slot[softAt:])),
		HardAtMS:  int64(binary.LittleEndian.Uint64(slot[hardAt:])),
		start:     binary.LittleEndian.Uint64(slot[startAt:]),
	}, true, nil
}

// header says whose the ledger is, and of which boot.
type header struct{ drone, boot string }

// bootID is that of this boot, as the ledger has it: without dashes.
func bootID() (string, error) {
	id, err := boottime.BootID()
	return strings.ReplaceAll(id, "-", ""), err
}

func (h header) encode(slot []byte) error {
	if len(h.drone) > textSize || len(h.boot) > bootSize {
		return fmt.Errorf("the drone's name %q or the boot's id %q is too long", h.drone, h.boot)
	}
	clear(slot)
	copy(slot[magicAt:], magic)
	slot[lengthAt] = byte(copy(slot[textAt:], h.drone))
	slot[pidAt] = byte(copy(slot[bootAt:], h.boot))
	seal(slot)
	return nil
}

func decodeHeader(slot []byte) (h header, err error) {
	if len(slot) < slotSize || string(slot[magicAt:magicAt+len(magic)]) != magic {
		return h, errors.New("it is not a ledger of this version")
	}
	drone, boot := int(slot[lengthAt]), int(slot[pidAt])
	if binary.LittleEndian.Uint32(slot) != crc32.Checksum(slot[lengthAt:slotSize], castagnoli) || drone > textSize || boot > bootSize {
		return h, errTorn
	}
	return header{drone: string(slot[textAt : textAt+drone]), boot: string(slot[bootAt : bootAt+boot])}, nil
}

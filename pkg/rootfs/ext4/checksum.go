package ext4

import (
	"encoding/binary"
	"hash/crc32"
)

// le is the order of bytes: the lowest first.
var le = binary.LittleEndian //nolint:gochecknoglobals // a constant in all but name

// put16 stores the two halves of a number, each in two bytes.
func put16(raw []byte, low, high int, v uint32) {
	le.PutUint16(raw[low:], uint16(v&0xffff))
	le.PutUint16(raw[high:], uint16(v>>16))
}

// put32 stores the two halves of a number, each in four bytes.
func put32(raw []byte, low, high int, v uint64) {
	le.PutUint32(raw[low:], uint32(v&0xffffffff))
	le.PutUint32(raw[high:], uint32(v>>32))
}

// put48 stores the lower four bytes of a number and the two above them.
func put48(raw []byte, low, high int, v uint64) {
	le.PutUint32(raw[low:], uint32(v&0xffffffff))
	le.PutUint16(raw[high:], uint16(v>>32&0xffff))
}

func get16(raw []byte, low, high int) uint32 {
	return uint32(le.Uint16(raw[low:])) | uint32(le.Uint16(raw[high:]))<<16
}

func get32(raw []byte, low, high int) uint64 {
	return uint64(le.Uint32(raw[low:])) | uint64(le.Uint32(raw[high:]))<<32
}

// checksum continues a CRC-32C the way ext4 does: without the inversions at both ends.
func checksum(sum uint32, p ...[]byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	for _, part := range p {
		sum = ^crc32.Update(^sum, table, part)
	}
	return sum
}

func le32(v uint32) []byte { return le.AppendUint32(nil, v) }

func le64(v uint64) []byte { return le.AppendUint64(nil, v) }

package qcow2_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	compress "github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/qcow2"
	"github.com/gild-project/gild/pkg/format/refusal"
)

// tiny is a version 3 image with clusters of 512 bytes and a disk of 8 KiB: header, reference
// table and block, first table, second table, and data for the guest's clusters 0 and 3.
func tiny() []byte {
	b := make([]byte, 7*512)
	copy(b, "QFI\xfb")
	put32(b, 4, 3)
	put32(b, 20, 9)
	put64(b, 24, 8192)
	put32(b, 36, 1)
	put64(b, 40, 3*512)
	put64(b, 48, 1*512)
	put32(b, 56, 1)
	put32(b, 96, 4)
	put32(b, 100, 104)
	put64(b, 512, 2*512)
	for i := range 7 {
		binary.BigEndian.PutUint16(b[2*512+2*i:], 1)
	}
	put64(b, 3*512, 1<<63|4*512)
	put64(b, 4*512, 1<<63|5*512)
	put64(b, 4*512+3*8, 1<<63|6*512)
	copy(b[5*512:], bytes.Repeat([]byte("A"), 512))
	copy(b[6*512:], bytes.Repeat([]byte("B"), 512))
	return b
}

func put32(b []byte, off int, v uint32) { binary.BigEndian.PutUint32(b[off:], v) }
func put64(b []byte, off int, v uint64) { binary.BigEndian.PutUint64(b[off:], v) }
func get64(b []byte, off int) uint64    { return binary.BigEndian.Uint64(b[off:]) }

// with returns a tiny image with one change.
func with(change func(b []byte)) []byte {
	b := tiny()
	change(b)
	return b
}

// deflate compresses as QEMU does.
func deflate(b []byte) []byte { return deflateAt(flate.BestCompression, b) }

func deflateAt(level int, b []byte) []byte {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, level)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

// frame compresses as QEMU does with zstd.
func frame(b []byte) []byte {
	w, _ := compress.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(b)
	return b
}

// packed is a tiny image whose first cluster is compressed, at an odd offset. What follows it
// is no part of it.
func packed(data []byte) []byte {
	b := append(tiny(), make([]byte, 1024)...)
	put64(b, 4*512, 1<<62|1<<61|7*512+3)
	for i := 7 * 512; i < len(b); i++ {
		b[i] = 0xff
	}
	copy(b[7*512+3:], data)
	return b
}

// zstd marks an image as one compressed with zstd.
func zstd(b []byte) []byte {
	put32(b, 100, 112)
	put64(b, 72, 8)
	b[104] = 1
	return b
}

// check reads an image in both ways and returns the error of the first one. Both must take it,
// with the same disk, or refuse it for the same reason.
func check(t *testing.T, b []byte) (*disk, error) {
	t.Helper()
	at, err := random(t.Context(), bytes.NewReader(b), int64(len(b)), math.MaxInt64, false)
	pass, passes, passErr := forward(t.Context(), bytes.NewReader(b), int64(len(b)), math.MaxInt64, 100)
	if err != nil {
		require.Error(t, passErr)
		require.Equal(t, reason(t, err), reason(t, passErr))
		return nil, err
	}
	require.NoError(t, passErr)
	require.Equal(t, 1, passes)
	require.NoError(t, at.equal(pass))
	return at, nil
}

func TestTinyImageIsGood(t *testing.T) {
	got, err := check(t, tiny())
	require.NoError(t, err)
	want := make([]byte, page)
	copy(want, bytes.Repeat([]byte("A"), 512))
	copy(want[3*512:], bytes.Repeat([]byte("B"), 512))
	require.Equal(t, map[int64][]byte{0: want}, got.pages)
	require.Equal(t, int64(8192), got.size)

	im, err := qcow2.Open(t.Context(), source{bytes.NewReader(tiny())}, 7*512, math.MaxInt64)
	require.NoError(t, err)
	require.Equal(t, int64(1024), im.DataBytes)
	require.Equal(t, int64(512), im.Granule())
	require.Equal(t, 1, im.Slices())
}

func TestEveryTruncationIsFound(t *testing.T) {
	whole := tiny()
	for length := range whole {
		_, err := check(t, whole[:length])
		require.Equal(t, refusal.TruncatedImage, reason(t, err), "length %d", length)
	}
}

func TestGate(t *testing.T) {
	cases := map[string]struct {
		image []byte
		fail  string
	}{
		"backing file":              {with(func(b []byte) { put64(b, 8, 112); put32(b, 16, 11) }), refusal.UnsafeImage},
		"backing file, no length":   {with(func(b []byte) { put64(b, 8, 112) }), refusal.UnsafeImage},
		"backing file, no offset":   {with(func(b []byte) { put32(b, 16, 11) }), refusal.UnsafeImage},
		"encrypted aes":             {with(func(b []byte) { put32(b, 32, 1) }), refusal.UnsafeImage},
		"encrypted luks":            {with(func(b []byte) { put32(b, 32, 2) }), refusal.UnsafeImage},
		"data file":                 {with(func(b []byte) { put64(b, 72, 4) }), refusal.UnsafeImage},
		"data file extension":       {with(func(b []byte) { put32(b, 104, 0x44415441) }), refusal.UnsafeImage},
		"crypto extension":          {with(func(b []byte) { put32(b, 104, 0x0537be77) }), refusal.UnsafeImage},
		"version 0":                 {with(func(b []byte) { put32(b, 4, 0) }), refusal.CorruptImage},
		"version 1":                 {with(func(b []byte) { put32(b, 4, 1) }), refusal.CorruptImage},
		"version 4":                 {with(func(b []byte) { put32(b, 4, 4) }), refusal.CorruptImage},
		"cluster bits 8":            {with(func(b []byte) { put32(b, 20, 8) }), refusal.CorruptImage},
		"cluster bits 22":           {with(func(b []byte) { put32(b, 20, 22) }), refusal.CorruptImage},
		"cluster bits 63":           {with(func(b []byte) { put32(b, 20, 63) }), refusal.CorruptImage},
		"marked corrupt":            {with(func(b []byte) { put64(b, 72, 2) }), refusal.CorruptImage},
		"unknown feature":           {with(func(b []byte) { put64(b, 72, 1<<5) }), refusal.UnsupportedFormat},
		"unknown feature 63":        {with(func(b []byte) { put64(b, 72, 1<<63) }), refusal.UnsupportedFormat},
		"dirty is fine":             {with(func(b []byte) { put64(b, 72, 1) }), ""},
		"compatible is fine":        {with(func(b []byte) { put64(b, 80, math.MaxUint64) }), ""},
		"autoclear is fine":         {with(func(b []byte) { put64(b, 88, math.MaxUint64) }), ""},
		"unknown extension is fine": {with(func(b []byte) { put32(b, 104, 0x12345678); put32(b, 108, 9) }), ""},
		"extension too long":        {with(func(b []byte) { put32(b, 104, 0x12345678); put32(b, 108, 0xffffff00) }), refusal.CorruptImage},
		"compression without bit":   {with(func(b []byte) { put32(b, 100, 112); b[104] = 1 }), refusal.CorruptImage},
		"bit without compression":   {with(func(b []byte) { put64(b, 72, 8) }), refusal.CorruptImage},
		"unknown compression":       {with(func(b []byte) { put32(b, 100, 112); put64(b, 72, 8); b[104] = 7 }), refusal.UnsupportedFormat},
		"zstd is fine":              {with(func(b []byte) { put32(b, 100, 112); put64(b, 72, 8); b[104] = 1 }), ""},
		"subclusters too small":     {with(func(b []byte) { put64(b, 72, 16) }), refusal.CorruptImage},
		"refcount order":            {with(func(b []byte) { put32(b, 96, 7) }), refusal.CorruptImage},
		"header length 8":           {with(func(b []byte) { put32(b, 100, 8) }), refusal.CorruptImage},
		"header length huge":        {with(func(b []byte) { put32(b, 100, 1<<31) }), refusal.CorruptImage},
		"no disk":                   {with(func(b []byte) { put64(b, 24, 0) }), refusal.EmptySource},
		"odd disk":                  {with(func(b []byte) { put64(b, 24, 8191) }), refusal.CorruptImage},
		"disk of 2^64-1":            {with(func(b []byte) { put64(b, 24, math.MaxUint64) }), refusal.CorruptImage},
		"disk of 2^63":              {with(func(b []byte) { put64(b, 24, 1<<63) }), refusal.CorruptImage},
		"disk beyond the table":     {with(func(b []byte) { put64(b, 24, 1<<40) }), refusal.CorruptImage},
		"l1 of 4G entries":          {with(func(b []byte) { put32(b, 36, math.MaxUint32) }), refusal.CorruptImage},
		"l1 of 0 entries":           {with(func(b []byte) { put32(b, 36, 0) }), refusal.CorruptImage},
		"l1 between clusters":       {with(func(b []byte) { put64(b, 40, 3*512+1) }), refusal.CorruptImage},
		"l1 at 0":                   {with(func(b []byte) { put64(b, 40, 0) }), refusal.CorruptImage},
		"l1 offset overflow":        {with(func(b []byte) { put64(b, 40, math.MaxUint64&^511) }), refusal.CorruptImage},
		"l1 beyond the end":         {with(func(b []byte) { put64(b, 40, 1<<50) }), refusal.TruncatedImage},
		"refcounts between":         {with(func(b []byte) { put64(b, 48, 513) }), refusal.CorruptImage},
		"refcounts huge":            {with(func(b []byte) { put32(b, 56, math.MaxUint32) }), refusal.CorruptImage},
		"snapshots huge":            {with(func(b []byte) { put32(b, 60, math.MaxUint32) }), refusal.CorruptImage},
		"snapshots between":         {with(func(b []byte) { put32(b, 60, 1); put64(b, 64, 3) }), refusal.CorruptImage},
		"l1 entry reserved":         {with(func(b []byte) { put64(b, 3*512, 4*512|1) }), refusal.CorruptImage},
		"l1 entry beyond the end":   {with(func(b []byte) { put64(b, 3*512, 1<<40) }), refusal.TruncatedImage},
		"l2 entry reserved":         {with(func(b []byte) { put64(b, 4*512, 5*512|2) }), refusal.CorruptImage},
		"l2 entry beyond the end":   {with(func(b []byte) { put64(b, 4*512, 1<<40) }), refusal.TruncatedImage},
		"l2 entry all ones":         {with(func(b []byte) { put64(b, 4*512, math.MaxUint64) }), refusal.TruncatedImage},
		"zero flag is fine":         {with(func(b []byte) { put64(b, 4*512, 1) }), ""},
		"zero flag needs no data":   {with(func(b []byte) { put64(b, 4*512, 1<<40|1) }), ""},
		"zero flag in version 2":    {with(func(b []byte) { put32(b, 4, 2); put64(b, 4*512, 1) }), refusal.CorruptImage},
		"version 2 is fine":         {with(func(b []byte) { put32(b, 4, 2) }), ""},
		"beyond the disk is fine":   {with(func(b []byte) { put64(b, 4*512+16*8, 1<<40) }), ""},
		"compressed is fine":        {packed(deflate(make([]byte, 512))), ""},
		"compressed is no deflate":  {packed([]byte("no deflate data at all")), refusal.CorruptImage},
		"compressed is too short":   {packed(deflate(make([]byte, 511))), refusal.CorruptImage},
		"compressed is too long":    {packed(deflate(make([]byte, 513))), refusal.CorruptImage},
		"compressed has no end":     {packed(deflate(noise(512))[:300]), refusal.CorruptImage},
		"zstd is no zstd":           {zstd(packed(deflate(make([]byte, 512)))), refusal.CorruptImage},
		"zstd data is fine":         {zstd(packed(frame(make([]byte, 512)))), ""},
		"zstd data is too short":    {zstd(packed(frame(make([]byte, 511)))), refusal.CorruptImage},
		"zstd data is too long":     {zstd(packed(frame(make([]byte, 513)))), refusal.CorruptImage},
		"zstd data has no end":      {zstd(packed(frame(noise(512))[:300])), refusal.CorruptImage},
		"zstd frame is to skip":     {zstd(packed([]byte("\x50\x2a\x4d\x18\x00\x02\x00\x00"))), refusal.CorruptImage},
		"l2 table used twice":       {with(func(b []byte) { put64(b, 24, 64*512*2); put32(b, 36, 2); put64(b, 3*512+8, 4*512) }), refusal.CorruptImage},
		"no magic":                  {with(func(b []byte) { b[3] = 0 }), refusal.CorruptImage},
		"data used twice is fine":   {with(func(b []byte) { put64(b, 4*512+8, 5*512) }), ""},
		"compressed beyond the end": {with(func(b []byte) { put64(b, 4*512, 1<<62|1<<61|6*512) }), refusal.TruncatedImage},
		"compressed at 0":           {with(func(b []byte) { put64(b, 4*512, 1<<62) }), refusal.CorruptImage},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := check(t, c.image)
			if c.fail == "" {
				require.NoError(t, err)
				return
			}
			require.Equal(t, c.fail, reason(t, err))
		})
	}
}

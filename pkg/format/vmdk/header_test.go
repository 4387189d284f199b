package vmdk_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/gild-project/gild/pkg/format/refusal"
	"github.com/gild-project/gild/pkg/format/vmdk"
)

// requireReason wants an image refused for a reason.
func requireReason(t testing.TB, want string, err error) {
	t.Helper()
	var refused *refusal.Error
	require.True(t, errors.As(err, &refused), "not refused, but %v", err)
	require.Equal(t, want, refused.Reason(), "%v", err)
}

func put32(off int, v uint32) func([]byte) { return func(b []byte) { le.PutUint32(b[off:], v) } }
func put64(off int, v uint64) func([]byte) { return func(b []byte) { le.PutUint64(b[off:], v) } }

// text replaces the descriptor.
func text(s string) func([]byte) {
	return func(b []byte) {
		clear(b[sector : 21*sector])
		copy(b[sector:], s)
	}
}

func TestReadHeaderTakesWhatTheToolsWrite(t *testing.T) {
	for name, options := range map[string]string{
		"stream":      "subformat=streamOptimized",
		"sparse":      "subformat=monolithicSparse",
		"zero grains": "subformat=monolithicSparse,zeroed_grain=on",
	} {
		t.Run(name, func(t *testing.T) {
			h, err := vmdk.ReadHeader(fromQemu(t, make([]byte, 1<<20+512), options))
			require.NoError(t, err)
			require.Equal(t, int64(1<<20+512), h.VirtualSize)
			require.Equal(t, int64(64<<10), h.Granule())
			require.Equal(t, name == "stream", h.Stream)
		})
	}
	for name, descriptor := range map[string]string{
		"line ends of Windows": strings.ReplaceAll(descriptorFor(16), "\n", "\r\n"),
		"spaces":               strings.ReplaceAll(descriptorFor(16), "=", " = "),
		"capital CID":          strings.Replace(descriptorFor(16), "ffffffff", "FFFFFFFF", 1),
		"writable":             strings.Replace(descriptorFor(16), "RDONLY", "RW", 1),
		"name of other letters": strings.Replace(descriptorFor(16), "disk.vmdk", "Platte für Jörg (2).vmdk",
			1),
		"fills its sectors": descriptorFor(16) + strings.Repeat("#", 20*sector-len(descriptorFor(16))),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := vmdk.ReadHeader(build(t, make([]byte, 16*sector), layout{footer: true, descriptor: descriptor}).data)
			require.NoError(t, err)
		})
	}
}

func TestReadHeaderRefuses(t *testing.T) {
	good := descriptorFor(16)
	line := `RDONLY 16 SPARSE "disk.vmdk"`
	extent := func(s string) func([]byte) { return text(strings.Replace(good, line, s, 1)) }
	for name, c := range map[string]struct {
		edit   func([]byte)
		reason string
	}{
		"old kind":          {func(b []byte) { copy(b, "COWD") }, refusal.UnsupportedFormat},
		"descriptor file":   {func(b []byte) { copy(b, "# Disk DescriptorFile\n") }, refusal.UnsafeImage},
		"version 0":         {put32(4, 0), refusal.UnsupportedFormat},
		"version 4":         {put32(4, 4), refusal.UnsupportedFormat},
		"unknown flag":      {put32(8, 0x30001|1<<18), refusal.UnsupportedFormat},
		"no markers":        {put32(8, 0x10001), refusal.UnsupportedFormat},
		"markers alone":     {put32(8, 0x20001), refusal.CorruptImage},
		"algorithm 2":       {func(b []byte) { b[77] = 2 }, refusal.UnsupportedFormat},
		"algorithm 0":       {func(b []byte) { b[77] = 0 }, refusal.CorruptImage},
		"sent as text":      {func(b []byte) { b[75] = '\n' }, refusal.CorruptImage},
		"capacity 0":        {put64(12, 0), refusal.EmptySource},
		"capacity 2^54":     {put64(12, 1<<54), refusal.UnsupportedFormat},
		"capacity 2^55":     {put64(12, 1<<55), refusal.UnsupportedFormat},
		"capacity 2^63":     {put64(12, 1<<63), refusal.UnsupportedFormat},
		"capacity max":      {put64(12, math.MaxUint64), refusal.UnsupportedFormat},
		"grain 0":           {put64(20, 0), refusal.CorruptImage},
		"grain 4":           {put64(20, 4), refusal.CorruptImage},
		"grain 96":          {put64(20, 96), refusal.CorruptImage},
		"grain 256":         {put64(20, 256), refusal.CorruptImage},
		"grain 2^63":        {put64(20, 1<<63), refusal.CorruptImage},
		"descriptor none":   {put64(28, 0), refusal.UnsupportedFormat},
		"descriptor at 2":   {put64(28, 2), refusal.UnsupportedFormat},
		"descriptor empty":  {put64(36, 0), refusal.CorruptImage},
		"descriptor 2 MiB":  {put64(36, 4096), refusal.CorruptImage},
		"descriptor 2^63":   {put64(36, 1<<63), refusal.CorruptImage},
		"descriptor short":  {func(b []byte) { text(good + strings.Repeat("#", sector))(b); b[36] = 1 }, refusal.CorruptImage},
		"descriptor long":   {func(b []byte) { b[36] = 200; b[64] = 255; copy(b[sector:], bytes.Repeat([]byte("#"), 1<<20)) }, refusal.TruncatedImage},
		"entries 0":         {put32(44, 0), refusal.CorruptImage},
		"entries 1024":      {put32(44, 1024), refusal.CorruptImage},
		"directory 0":       {put64(56, 0), refusal.CorruptImage},
		"directory inside":  {put64(56, 20), refusal.CorruptImage},
		"directory 2^63":    {put64(56, 1<<63), refusal.CorruptImage},
		"grains inside":     {put64(64, 20), refusal.CorruptImage},
		"grains 2^55":       {put64(64, 1<<55), refusal.CorruptImage},
		"no text":           {text(""), refusal.CorruptImage},
		"no type":           {text(strings.Replace(good, "createType", "x", 1)), refusal.CorruptImage},
		"two types":         {text(good + "CREATETYPE=\"vmfs\"\n"), refusal.CorruptImage},
		"flat type":         {text(strings.Replace(good, "streamOptimized", "monolithicFlat", 1)), refusal.UnsafeImage},
		"parent":            {text(strings.Replace(good, "ffffffff", "deadbeef", 1)), refusal.UnsafeImage},
		"no parent":         {text(strings.Replace(good, "parentCID=ffffffff", "", 1)), refusal.CorruptImage},
		"two parents":       {text(good + "parentCID=deadbeef\n"), refusal.CorruptImage},
		"parent's name":     {text(good + "parentFileNameHint=\"/etc/passwd\"\n"), refusal.UnsafeImage},
		"parent in comment": {text(good + "# parentFileNameHint=\"/etc/passwd\"\n"), refusal.UnsafeImage},
		"no extent":         {extent(""), refusal.UnsafeImage},
		"two extents":       {extent(line + "\n" + line), refusal.UnsafeImage},
		"flat extent":       {extent(`RW 16 FLAT "disk.vmdk" 0`), refusal.UnsafeImage},
		"flat by tabs":      {extent("RW\t16\tFLAT\t\"disk.vmdk\"\t0"), refusal.UnsafeImage},
		"zero extent":       {extent(`RW 16 ZERO`), refusal.UnsafeImage},
		"vmfs extent":       {extent(`RW 16 VMFSSPARSE "disk.vmdk"`), refusal.UnsafeImage},
		"no access":         {extent(`NOACCESS 16 SPARSE "disk.vmdk"`), refusal.UnsafeImage},
		"no sectors":        {extent(`RW 0 SPARSE "disk.vmdk"`), refusal.CorruptImage},
		"sectors < 0":       {extent(`RW -1 SPARSE "disk.vmdk"`), refusal.CorruptImage},
		"sectors 2^64":      {extent(`RW 18446744073709551616 SPARSE "disk.vmdk"`), refusal.CorruptImage},
		"path":              {extent(`RW 16 SPARSE "/etc/passwd"`), refusal.UnsafeImage},
		"path up":           {extent(`RW 16 SPARSE "../disk.vmdk"`), refusal.UnsafeImage},
		"path of Windows":   {extent(`RW 16 SPARSE "..\disk.vmdk"`), refusal.UnsafeImage},
		"dots":              {extent(`RW 16 SPARSE ".."`), refusal.UnsafeImage},
		"options":           {extent(`RW 16 SPARSE "json:{}"`), refusal.UnsafeImage},
		"no name":           {extent(`RW 16 SPARSE ""`), refusal.UnsafeImage},
		"name not closed":   {extent(`RW 16 SPARSE "disk.vmdk`), refusal.UnsafeImage},
		"offset":            {extent(line + " 0"), refusal.UnsafeImage},
		"long name":         {extent(`RW 16 SPARSE "` + strings.Repeat("a", 256) + `"`), refusal.UnsafeImage},
	} {
		t.Run(name, func(t *testing.T) {
			head := build(t, make([]byte, 16*sector), layout{footer: true}).data
			c.edit(head)
			_, err := vmdk.ReadHeader(head[:64<<10])
			requireReason(t, c.reason, err)
		})
	}
	head := build(t, make([]byte, 16*sector), layout{footer: true}).data
	for _, n := range []int{4, 78, 511, 1023} {
		_, err := vmdk.ReadHeader(head[:n])
		requireReason(t, refusal.TruncatedImage, err)
	}
}

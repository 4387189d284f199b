package ext4

import (
	"bytes"
	"io"
)

// granule is the smallest run of zeros that is left out, in bytes: smaller holes would only make
// many extents.
const granule = 16 * BlockSize

// writeContent copies size bytes and tells where they are.
func (f *Filler) writeContent(content io.Reader, size int64) ([]extent, error) {
	var extents []extent
	zeros := make([]byte, granule)
	for done := int64(0); done < size; {
		chunk := f.buffer[:min(int64(len(f.buffer)), size-done)]
		if _, err := io.ReadFull(content, chunk); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		for at := 0; at < len(chunk); {
			// A run of granules that are all data, or all zeros.
			end, data := at, false
			for ; end < len(chunk); end = min(end+granule, len(chunk)) {
				part := chunk[end:min(end+granule, len(chunk))]
				some := !bytes.Equal(part, zeros[:len(part)])
				if end > at && some != data {
					break
				}
				data = some
			}
			if data {
				var err error
				if extents, err = f.writeRun(extents, uint64(done+int64(at))/BlockSize, chunk[at:end]); err != nil {
					return nil, err
				}
			}
			at = end
		}
		done += int64(len(chunk))
	}
	return extents, nil
}

// writeRun stores data from a logical block on. What the last block has beyond it is zero,
// because the storage was.
func (f *Filler) writeRun(extents []extent, logical uint64, data []byte) ([]extent, error) {
	for len(data) > 0 {
		first, n, err := f.takeBlocks((uint64(len(data)) + BlockSize - 1) / BlockSize)
		if err != nil {
			return nil, err
		}
		part := data[:min(uint64(len(data)), n*BlockSize)]
		if err := f.writeBlock(first, part); err != nil {
			return nil, err
		}
		extents = join(extents, extent{logical: logical, physical: first, blocks: n})
		data = data[len(part):]
		logical += n
	}
	return extents, nil
}

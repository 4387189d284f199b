package nbd

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Fixed newstyle negotiation.
const (
	serverMagic = 0x4e42444d41474943
	optionMagic = 0x49484156454f5054
	replyMagic  = 0x3e889045565a9

	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1

	optionExportName = 1
	optionAbort      = 2
	optionList       = 3
	optionInfo       = 6
	optionGo         = 7

	replyAck         = 1
	replyServer      = 2
	replyInfo        = 3
	replyUnsupported = 1<<31 + 1
	replyInvalid     = 1<<31 + 3
	replyUnknown     = 1<<31 + 6

	infoExport    = 0
	infoBlockSize = 3

	exportHasFlags = 1 << 0
	exportReadOnly = 1 << 1

	// maxOption is more than an option of a client that asks for us can have.
	maxOption = 8 << 10
	// maxOptions bounds how long a client may haggle.
	maxOptions = 64
)

// shakeHands agrees on the only export, which has the empty name. Not ready means that the
// client said goodbye.
func (s *server) shakeHands() (ready bool, err error) {
	hello := binary.BigEndian.AppendUint64(nil, serverMagic)
	hello = binary.BigEndian.AppendUint64(hello, optionMagic)
	hello = binary.BigEndian.AppendUint16(hello, flagFixedNewstyle|flagNoZeroes)
	if err := s.send(hello); err != nil {
		return false, err
	}
	var answer [4]byte
	if _, err := io.ReadFull(s.in, answer[:]); err != nil {
		return false, err
	}
	flags := binary.BigEndian.Uint32(answer[:])
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return false, fmt.Errorf("client has unknown flags %#x", flags)
	}
	for range maxOptions {
		option, data, err := s.readOption()
		if err != nil {
			return false, err
		}
		switch option {
		case optionExportName:
			// The one option without a reply: a wrong name ends the connection.
			if len(data) != 0 {
				return false, fmt.Errorf("client asks for an export of the name %.40q", data)
			}
			return true, s.send(s.exportLegacy(flags&flagNoZeroes == 0))
		case optionAbort:
			return false, s.reply(option, replyAck, nil)
		default:
			if ready, err := s.answer(option, data); ready || err != nil {
				return ready, err
			}
		}
	}
	return false, fmt.Errorf("client sent %d options", maxOptions)
}

func (s *server) readOption() (option uint32, data []byte, err error) {
	var head [16]byte
	if _, err := io.ReadFull(s.in, head[:]); err != nil {
		return 0, nil, err
	}
	if magic := binary.BigEndian.Uint64(head[:]); magic != optionMagic {
		return 0, nil, fmt.Errorf("client sent %#x in place of an option", magic)
	}
	length := binary.BigEndian.Uint32(head[12:])
	if length > maxOption {
		return 0, nil, fmt.Errorf("client sent an option of %d bytes", length)
	}
	data = make([]byte, length)
	_, err = io.ReadFull(s.in, data)
	return binary.BigEndian.Uint32(head[8:]), data, err
}

// answer replies to the options that leave the connection open. What is not known is refused
// cleanly: the client goes on without.
func (s *server) answer(option uint32, data []byte) (ready bool, err error) {
	switch option {
	case optionList:
		if len(data) != 0 {
			return false, s.reply(option, replyInvalid, nil)
		}
		if err := s.reply(option, replyServer, make([]byte, 4)); err != nil {
			return false, err
		}
		return false, s.reply(option, replyAck, nil)
	case optionInfo, optionGo:
		name, ok := exportName(data)
		if !ok {
			return false, s.reply(option, replyInvalid, nil)
		}
		if name != "" {
			return false, s.reply(option, replyUnknown, nil)
		}
		if err := s.describe(option); err != nil {
			return false, err
		}
		return option == optionGo, s.reply(option, replyAck, nil)
	}
	return false, s.reply(option, replyUnsupported, nil)
}

// exportName reads the data of an info or go option: a name and a list of wishes, which are
// hints only.
func exportName(data []byte) (name string, ok bool) {
	if len(data) < 6 {
		return "", false
	}
	length := int64(binary.BigEndian.Uint32(data))
	if length > int64(len(data)-6) {
		return "", false
	}
	wishes := data[4+length:]
	return string(data[4 : 4+length]), len(wishes) == 2+2*int(binary.BigEndian.Uint16(wishes))
}

func (s *server) describe(option uint32) error {
	export := binary.BigEndian.AppendUint16(nil, infoExport)
	if err := s.reply(option, replyInfo, s.appendExport(export)); err != nil {
		return err
	}
	sizes := binary.BigEndian.AppendUint16(nil, infoBlockSize)
	for _, size := range []uint32{1, chunkSize, maxRequest} {
		sizes = binary.BigEndian.AppendUint32(sizes, size)
	}
	return s.reply(option, replyInfo, sizes)
}

func (s *server) exportLegacy(zeroes bool) []byte {
	b := s.appendExport(nil)
	if zeroes {
		b = append(b, make([]byte, 124)...)
	}
	return b
}

func (s *server) appendExport(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(s.export.Size)) //nolint:gosec // Serve refused negative sizes
	return binary.BigEndian.AppendUint16(b, exportHasFlags|exportReadOnly)
}

func (s *server) reply(option, kind uint32, data []byte) error {
	b := binary.BigEndian.AppendUint64(nil, replyMagic)
	b = binary.BigEndian.AppendUint32(b, option)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data))) //nolint:gosec // a dozen bytes
	return s.send(append(b, data...))
}

package main

// Names of contenders.
const (
	gild         = "gild"
	curlConvert  = "curl, qemu-img"
	nbdkit       = "nbdkit, qemu-img"
	pipe         = "curl | tool | dd"
	localConvert = "local qemu-img"
	skopeo       = "skopeo, tar, qemu-img"
	crane        = "crane | tar, qemu-img"
)

// contender is one way to fill the target. It ends with the data on the disk and is timed as a
// whole.
type contender struct {
	name string
	// script is run by bash with URL, FILE (the source on this machine), FORMAT, SUM (its sha256,
	// or empty), TARGET, SCRATCH (a folder) and IMPORTER. For container disks URL and FILE are the layer, REFERENCE is
	// the image, LAYER the layer's digest, and there are REGISTRIES (a folder with registries.conf) and CRANE.
	script string
	// local tells that it reads the source from this machine: no peer, but a mark.
	local bool
}

// contenders of a cell, the importer first.
func contenders(c cell) []contender {
	if c.kind.layer != "" {
		return layered(c)
	}
	all := []contender{{name: gild, script: `exec "$IMPORTER" --source "$URL" --target "$TARGET" --scratch-dir "$SCRATCH" --progress json ${SUM:+--checksum "sha256:$SUM"}`}}
	if c.kind.unpack != "" {
		// Only a fresh file reads as zero where dd leaves holes.
		conv := "sparse,fsync"
		if c.target == toBlock {
			conv = "fsync"
		}
		return append(all, contender{name: pipe, script: `curl -sf "$URL" | ` + c.kind.unpack + ` | dd of="$TARGET" bs=4M iflag=fullblock conv=` + conv + ` status=none`})
	}
	all = append(all,
		contender{name: curlConvert, script: `f=$SCRATCH/download; curl -sf -o "$f" "$URL"; [ -z "$SUM" ] || echo "$SUM  $f" | sha256sum -c --quiet
			qemu-img convert -t writeback -f "$FORMAT" -O raw "$f" "$TARGET"; sync -d "$TARGET"; rm -f "$f"`},
		contender{name: nbdkit, script: `export T=$TARGET F=$FORMAT; nbdkit -U - curl "$URL" --run 'qemu-img convert -t writeback -m 16 -W -f $F -O raw "nbd:unix:$unixsocket" "$T"'
			sync -d "$TARGET"`})
	if c.kind.format == "qcow2" && c.kind.packed && c.link == loopback && !c.checksum {
		all = append(all, contender{name: localConvert, local: true,
			script: `qemu-img convert -t writeback -m 16 -W -f "$FORMAT" -O raw "$FILE" "$TARGET"; sync -d "$TARGET"`})
	}
	return all
}

// layered are the contenders of a container disk.
func layered(c cell) []contender {
	unpack := ""
	if c.kind.unpack != "" {
		unpack = c.kind.unpack + " |"
	}
	return []contender{
		{name: gild, script: `exec "$IMPORTER" --source "docker://$REFERENCE" --registry-config "$REGISTRIES" --target "$TARGET" --scratch-dir "$SCRATCH" --progress json`},
		{name: skopeo, script: `d=$SCRATCH/image x=$SCRATCH/x; mkdir -p "$x"; skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$REFERENCE" "dir:$d"
			tar -C "$x" -xf "$d/${LAYER#sha256:}"; qemu-img convert -t writeback -f "$FORMAT" -O raw "$x"/disk/* "$TARGET"; sync -d "$TARGET"; rm -rf "$d" "$x"`},
		{name: crane, script: `x=$SCRATCH/x; mkdir -p "$x"; "$CRANE" blob --insecure "${REFERENCE%:*}@$LAYER" | ` + unpack + ` tar -C "$x" -xf -
			qemu-img convert -t writeback -f "$FORMAT" -O raw "$x"/disk/* "$TARGET"; sync -d "$TARGET"; rm -rf "$x"`},
	}
}

// Names of the floor's stages.
const (
	fetchOne      = "fetch 1"
	fetchFour     = "fetch 4"
	writeDirect   = "write direct"
	writeBuffered = "write buffered"
	unpackStage   = "unpack"
	hashStage     = "hash"
)

// stage is one part of the work, done by the best tool for it.
type stage struct {
	name, script string
	// writes tells that it needs a target.
	writes bool
}

// stages of a cell. DENSE is a file with the data of the disk and no holes.
func stages(c cell) []stage {
	conv := "fsync"
	if c.target == toBlock {
		conv = "fsync,notrunc"
	}
	all := []stage{
		{name: fetchOne, script: `curl -sf -o /dev/null "$URL"`},
		{name: fetchFour, script: `size=$(stat -c %s "$FILE"); part=$(((size + 3) / 4)); pids=()
			for n in 0 1 2 3; do curl -sf -r $((n * part))-$(((n + 1) * part - 1)) -o /dev/null "$URL" & pids+=($!); done; for p in "${pids[@]}"; do wait "$p"; done`},
		{name: writeDirect, writes: true, script: `dd if="$DENSE" of="$TARGET" bs=4M oflag=direct conv=` + conv + ` status=none`},
		{name: writeBuffered, writes: true, script: `dd if="$DENSE" of="$TARGET" bs=4M conv=` + conv + ` status=none`},
	}
	switch {
	case c.kind.unpack != "":
		all = append(all, stage{name: unpackStage, script: c.kind.unpack + ` < "$FILE" > /dev/null`})
	case c.kind.packed:
		all = append(all, stage{name: unpackStage, script: `export I=$FILE F=$FORMAT; nbdkit -U - null "$SIZE" --run 'qemu-img convert -n -m 16 -W -f $F -O raw "$I" "nbd:unix:$unixsocket"'`})
	}
	if c.checksum || c.kind.layer != "" { // the digest of a layer is always compared
		all = append(all, stage{name: hashStage, script: `exec "$BENCH_PROGRAM" -` + hashFlag + ` "$FILE"`})
	}
	return all
}

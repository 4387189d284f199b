package main

// size is how much is measured.
type size struct {
	// name is the folder of the disk.
	name string
	// virtual is the size of the disk in bytes, packages what is installed on it.
	virtual  int64
	packages string
	// rounds are over the loopback, limitedRounds over limited connections, where the network
	// decides and figures hardly vary.
	rounds, limitedRounds int
}

func full() size {
	return size{name: "full", virtual: 10 << 30, packages: "linux-image-amd64,systemd-sysv,udev,python3,git", rounds: 5, limitedRounds: 2}
}

func quick() size {
	return size{name: "quick", virtual: 1 << 30, packages: "linux-image-cloud-amd64,systemd-sysv,udev", rounds: 1, limitedRounds: 1}
}

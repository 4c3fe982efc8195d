// Package embedded runs a Kafka broker and a Redis server inside the example programs' own process, so that the
// examples need nothing installed. Connectors know nothing of it: they speak the plain protocols to the addresses.
//
//	k, err := embedded.StartKafka(filepath.Join(dir, "kafka"), embedded.KafkaOptions{
//		Topics: []embedded.Topic{{Name: "orders", Partitions: 4}},
//	})
//	if err != nil {
//		return err
//	}
//	defer k.Close()
//	r, err := embedded.StartRedis(filepath.Join(dir, "redis"), embedded.RedisOptions{})
//	if err != nil {
//		return err
//	}
//	defer r.Close()
//	// ... connect to k.Addr() and r.Addr()
//
// Both keep their data under the given directory and lose nothing they acknowledged when the process is killed:
// every write reaches the operating system before its reply is sent. A power cut may take the last writes, as nothing
// is synced to the disk. Starting again on the same directory brings the data back, on a new port.
//
// One process at a time may use a directory; the caller sees to that. The servers' goroutines end in Close.
//
// What differs from real servers. Kafka: a transaction that is open when the process dies is aborted, and a commit
// that comes after the restart is refused; there are no replicas, and topics are created only on request. Redis:
// blocking list and sorted set commands and group reads with BLOCK are refused; there are 16 databases; keys expire up
// to 10 ms late, with hundreds of thousands of keys up to a few seconds; scripts must not draw random numbers of their
// own. The Redis log is shortened at each start, unless a stream or a HyperLogLog is in it.
package embedded

package main

import "time"

// txnChecks are what makes people let a job write into their databases and topics: each result once, whoever dies and when.
func txnChecks() []check {
	all := []check{
		{"txn/matrix", lastLine{"matrix", []string{"matrix"}, `matrix: (\d+) of (\d+) hold`, 25 * time.Minute}.check},
		{"txn/timeouts", lastLine{"timeouts", []string{"timeouts"}, `timeouts: (\d+) of (\d+) hold`, 15 * time.Minute}.check},
		{"txn/planted", lastLine{"planted", []string{"planted"}, `planted: (\d+) of (\d+) caught`, 25 * time.Minute}.check},
	}
	for _, t := range contracts {
		all = append(all, check{"txn/contracts/" + t.name, t.check})
	}
	return all
}

// contracts are the connectors whose two-phase sinks keep all promises of txn/txntest.
var contracts = []tested{
	{name: "files", pkg: "./connector/files", match: "^TestTxContract$", least: 30},
	{name: "postgres", pkg: "./connector/postgres", match: "^TestTxContract$", least: 60},
	{name: "mysql", pkg: "./connector/mysql", match: "^TestTxContract$", least: 60},
	{name: "kafka", pkg: "./connector/kafka", match: "^TestTx$/^version=[12]$/^Contract$", least: 60},
}

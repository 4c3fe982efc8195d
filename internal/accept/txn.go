package main

import "time"

// txnChecks are what makes people let a job write into their databases and topics: each result once, whoever dies and when.
func txnChecks() []check {
	all := []check{
		{"txn/matrix", lastLine{"matrix", []string{"matrix"}, `matrix: (\d+) of (\d+) hold`, 25 * time.Minute}.check},
		{"txn/timeouts", lastLine{"timeouts", []string{"timeouts"}, `timeouts: (\d+) of (\d+) hold`, 15 * time.Minute}.check},
		{"txn/planted", lastLine{"planted", []string{"planted"}, `planted: (\d+) of (\d+) caught`, 25 * time.Minute}.check},
	}
	for _, g := range []struct {
		prefix string
		tests  []tested
	}{{"txn/contracts/", contracts}, {"txn/", exactlyOnce}, {"txn/files/", partFiles}, {"txn/ahead/", ahead}, {"txn/input/", badInput}} {
		for _, t := range g.tests {
			all = append(all, check{g.prefix + t.name, t.check})
		}
	}
	return all
}

// ahead are the promises of the write-ahead sink: over a destination that can nothing, over a real Redis, and from an object store.
var ahead = []tested{
	{name: "contract", pkg: "./sink/ahead", match: "^TestContract$", least: 35},
	{name: "killed", pkg: "./sink/ahead", match: "^TestKilledAtEachStep$"},
	{name: "damage", pkg: "./sink/ahead", match: "^(TestDamage|TestEvidence|TestRowsLeftBehind)$", least: 10},
	{name: "full", pkg: "./sink/ahead", match: "^TestFullDisk$"},
	{name: "away", pkg: "./sink/ahead", match: "^TestDestination|^TestJobWaitsForItsDestination$", least: 3},
	{name: "refused", pkg: "./sink/ahead", match: "^(TestRefusedRows|TestMarkSaysWhereToGoOn)$", least: 4},
	{name: "moved", pkg: "./sink/ahead", match: "^(TestStateOnAnotherMachine|TestAnotherDirectory)$", least: 2},
	{name: "order", pkg: "./sink/ahead", match: "^(TestOrderOfEpochs|TestRowsOfManyPartsKeepTheirOrder)$", least: 2},
	{name: "others", pkg: "./sink/ahead", match: "^TestStrangersAreLeftAlone$"},
	{name: "promise", pkg: "./sink/ahead", match: "^(TestPromiseIsTheDestinations|Example)$", least: 2},
	{name: "redis-contract", pkg: "./connector/redis", match: "^TestAheadContract$", least: 105},
	{name: "redis-killed", pkg: "./connector/redis", match: "^TestAheadKilledAtEachStep$", least: 4},
	{name: "redis-down", pkg: "./connector/redis", match: "^(TestAheadServerKilled|TestMarkedServerInTrouble)$", least: 2},
	{name: "object-store", pkg: "./engine/store/blob", match: "^TestRowsWaitInAPlace$", least: 65},
}

// contracts are the connectors whose two-phase sinks keep all promises of txn/txntest.
var contracts = []tested{
	{name: "files", pkg: "./connector/files", match: "^TestTxContract", least: 120},
	{name: "postgres", pkg: "./connector/postgres", match: "^TestTxContract$", least: 60},
	{name: "mysql", pkg: "./connector/mysql", match: "^TestTxContract$", least: 60},
	{name: "s3", pkg: "./connector/objects", match: "^TestTxContract$", least: 38},
	{name: "kafka", pkg: "./connector/kafka", match: "^TestTx$/^version=[12]$/^Contract$", least: 60},
}

// exactlyOnce are the parts of it, in the order of the list of promises: what all destinations share, Kafka, PostgreSQL, MariaDB, the
// guarantee, and finishing by hand.
var exactlyOnce = []tested{
	{name: "decisions", pkg: "./txn", match: ".", least: 10},
	{name: "answers/kafka", pkg: "./connector/kafka", match: "^TestAnswersToACommit$|^TestWhat|^TestHandles$", least: 4},
	{name: "answers/postgres", pkg: "./connector/postgres", match: "^TestStates$|^TestEvidence$|^TestHandleOf|^TestConnectionLost|^TestFailedTransaction", least: 8},
	{name: "answers/mysql", pkg: "./connector/mysql", match: "^TestErrors$|^TestEvidence$|^TestHandleOf|^TestConnectionLost|^TestCommitThatIsNone$", least: 6},
	{name: "zombies/kafka", pkg: "./connector/kafka", match: "^TestTx$/^version=[12]$/^(Zombie|TakenOver|Recover|EndedBefore)$", least: 11},
	{name: "zombies/postgres", pkg: "./connector/postgres", match: "^TestRecovery|^TestRecoverLeaves|^TestSlotsOf", least: 4},
	{name: "zombies/mysql", pkg: "./connector/mysql", match: "^TestKilledInPrepare$|^TestRecoverLeaves|^TestSlotsOf|^TestCommitEndsTheOldSession$", least: 4},
	{name: "kafka/records", pkg: "./connector/kafka", match: "^TestTx$/^version=[12]$/^(Records|Empty)$", least: 7},
	{name: "kafka/evidence", pkg: "./connector/kafka", match: "^TestTx$/^version=[12]$/^(Marks|Proof|NoProof)$", least: 15},
	{name: "kafka/versions", pkg: "./connector/kafka", match: "^TestTxVersionIsPinned$|^TestTxOldBrokers$|^TestTxEpochsRunOut$|^TestTxClientBeginsAnew$", least: 4},
	{name: "kafka/age", pkg: "./connector/kafka", match: "^TestTxAge$|^TestTxOverdue$|^TestTxRoom$", least: 3},
	{name: "postgres/rows", pkg: "./connector/postgres", match: "^TestBadRowsAreFound$|^TestKeysReplaceRows$|^TestTypes$", least: 12},
	{name: "postgres/ledger", pkg: "./connector/postgres", match: "^TestLedger|^TestStaging|^TestRe(fused|jects)AtTheCommit$|^TestTableChanges$|^TestModeChanges$", least: 18},
	{name: "mysql/rows", pkg: "./connector/mysql", match: "^TestBadRowsAreFound$|^TestKeysReplaceRows$|^TestOnlyKeys$|^TestTypes$|^TestSmallPackets$", least: 12},
	{name: "mysql/connections", pkg: "./connector/mysql", match: "^TestCommitterClosesConnections$|^TestLocksEndTheTask$|^TestBinaryLog$|^TestWriterAfter", least: 4},
	{name: "guarantee", pkg: "./engine/cli", match: "^TestGuaranteesOfTheConnectors$", least: 1},
	{name: "sweeper", pkg: "./engine/cli", match: "^TestTxnAfterADeath$/^(postgres|ledger|mysql)$/^after-prepare$|^TestTxnOverKafka$/^after-prepare$", least: 6},
	{name: "by-hand", pkg: "./engine/cli", match: "^TestTxn|^TestJudge|^TestUnreachable", least: 28},
}

// badInput is what a two-phase sink will be given some day: each time one error with a code, which says what to do.
var badInput = []tested{
	{name: "prepared-off", pkg: "./engine/cli", match: "^TestBadInput$/^prepared-off$", least: 2},
	{name: "timeout-too-long", pkg: "./engine/cli", match: "^TestBadInput$/^timeout-too-long$", least: 2},
	{name: "right-missing", pkg: "./engine/cli", match: "^TestBadInput$/^right-missing$", least: 3},
	{name: "right-missing/kafka", pkg: "./connector/kafka", match: "^TestTxRights$", least: 1},
	{name: "table-missing", pkg: "./engine/cli", match: "^TestBadInput$/^table-missing$", least: 4},
	{name: "column-type", pkg: "./engine/cli", match: "^TestBadInput$/^column-type$", least: 4},
	{name: "unique-violation", pkg: "./engine/cli", match: "^TestBadInput$/^unique-violation$", least: 4},
	{name: "server-restarted", pkg: "./engine/cli", match: "^TestServerRestarted$", least: 5},
	{name: "name-taken", pkg: "./engine/cli", match: "^TestNameTaken$", least: 5},
	{name: "dead-rows", pkg: "./engine/cli", match: "^TestDeadRows$", least: 4},
	{name: "unfit-tables/postgres", pkg: "./connector/postgres", match: "^TestPreflight$|^TestTooFewPrepared", least: 12},
	{name: "unfit-tables/mysql", pkg: "./connector/mysql", match: "^TestPreflight$|^TestReadOnlyServer$", least: 15},
	{name: "settings/kafka", pkg: "./connector/kafka", match: "^TestTxSettings$|^TestTxPreflight$", least: 2},
	{name: "settings/postgres", pkg: "./connector/postgres", match: "^TestSettings$", least: 1},
	{name: "settings/mysql", pkg: "./connector/mysql", match: "^TestSettings$", least: 1},
}

// partFiles are what the files' sink can do beside the contract, and what it makes of crashes and full disks meanwhile.
var partFiles = []tested{
	{name: "rolling", pkg: "./connector/files", match: "^Test(TxFilesByTimeAndSize|ParquetRollsAndJoins|FullDisk|HandleOfVersion1)$", least: 4},
	{name: "buckets", pkg: "./connector/files", match: "^Test(KilledAtEachStep|TxRejectsWhatCantBeWritten|PrepareFindsWhatIsInTheWay)$", least: 5},
	{name: "formats", pkg: "./sink/parts/...", match: "^(Test|FuzzCSV$)", least: 20},
	{name: "compaction", pkg: "./connector/files", match: "^Test(CommitDiesAtEachOperation|DiesAgainAndAgain|RepeatedCommits|VisibleCantBeTakenBack|DamagedLedger|NothingIsShownBeforeItIsSafe)$", least: 6},
}

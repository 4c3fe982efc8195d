package testsvc

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// clusterID is any 16 bytes in URL-safe base64; every broker here is alone in its cluster.
const clusterID = "d2VpcmxpbmUtdGVzdC1rYQ"

// kafkaDefaults make one node enough for topics, groups and transactions, and let it come back within seconds after a
// crash: with the broker's own defaults its old session has to expire first, which takes 9 s.
var kafkaDefaults = map[string]string{
	"process.roles":                    "broker,controller",
	"node.id":                          "1",
	"controller.listener.names":        "CONTROLLER",
	"listener.security.protocol.map":   "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,SASL:SASL_PLAINTEXT",
	"inter.broker.listener.name":       "PLAINTEXT",
	"broker.session.timeout.ms":        "2000",
	"broker.heartbeat.interval.ms":     "300",
	"auto.create.topics.enable":        "false",
	"num.partitions":                   "1",
	"group.initial.rebalance.delay.ms": "0",

	"controller.quorum.election.timeout.ms":    "500",
	"controller.quorum.fetch.timeout.ms":       "1000",
	"offsets.topic.replication.factor":         "1",
	"offsets.topic.num.partitions":             "3",
	"transaction.state.log.replication.factor": "1",
	"transaction.state.log.min.isr":            "1",
	"transaction.state.log.num.partitions":     "3",
	"transaction.max.timeout.ms":               "3600000",

	"share.coordinator.state.topic.replication.factor":            "1",
	"share.coordinator.state.topic.min.isr":                       "1",
	"share.coordinator.state.topic.num.partitions":                "3",
	"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}

// kafkaProperties is the content of the broker's settings file.
func kafkaProperties(k *KafkaServer, controller string, o KafkaOptions) []byte {
	p := maps.Clone(kafkaDefaults)
	p["controller.quorum.voters"] = "1@" + controller
	p["listeners"] = "PLAINTEXT://" + k.Addr + ",CONTROLLER://" + controller
	p["advertised.listeners"] = "PLAINTEXT://" + k.Addr
	p["log.dirs"] = filepath.Join(k.Dir, "data")
	if o.User != "" {
		p["listeners"] += ",SASL://" + k.SASLAddr
		p["advertised.listeners"] += ",SASL://" + k.SASLAddr
		p["sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256"
		p["listener.name.sasl.plain.sasl.jaas.config"] = fmt.Sprintf(
			"org.apache.kafka.common.security.plain.PlainLoginModule required user_%s=%q;", o.User, o.Password)
		p["listener.name.sasl.scram-sha-256.sasl.jaas.config"] = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	}
	if o.Proxied {
		p["listeners"] += ",PROXIED://" + k.inner
		p["advertised.listeners"] += ",PROXIED://" + k.outer
	}
	maps.Copy(p, o.Properties)
	var b bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s=%s\n", key, p[key])
	}
	return b.Bytes()
}

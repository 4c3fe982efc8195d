package kafka

import (
	"fmt"
	"strconv"
)

// Unbounded as [Split].Stop means that the partition is read for ever.
const Unbounded int64 = -1

// Split is one partition and how far it has been read. All positions are offsets.
type Split struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Next      int64  `json:"next"` // first offset not read yet
	Stop      int64  `json:"stop"` // first offset not to be read, or Unbounded

	// TopicID is the broker's own identity of the topic, base64, empty if the broker has none. With it a topic that was
	// deleted and made again under its old name is noticed, also across a restart.
	TopicID string `json:"topic_id,omitempty"`
}

// ID is "topic/partition"; empty for the zero value.
func (s Split) ID() string {
	if s.Topic == "" {
		return ""
	}
	return s.Topic + "/" + strconv.Itoa(int(s.Partition))
}

// done says that nothing is left to read.
func (s Split) done() bool { return s.Stop >= 0 && s.Next >= s.Stop }

// at names a record in messages.
func (s Split) at(offset int64) string { return fmt.Sprintf("%s@%d", s.ID(), offset) }

// key is where a split's records are found in a fetch.
type key struct {
	topic     string
	partition int32
}

func (s Split) key() key { return key{s.Topic, s.Partition} }

package redis

import "context"

// ShardOf is the function by which a sink deals its records to nodes.
func ShardOf[T any](ctx context.Context, s Sink[T]) func(T) string {
	return s.batching(nil, s.layout(ctx)).Shard
}

package sql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

func TestMain(m *testing.M) { os.Exit(testsvc.Main(m)) }

// TestOrders is the contract of two-phase sinks.
func TestOrders(t *testing.T) {
	srv := testsvc.MariaDB(t)
	db, err := sql.Open("mysql", srv.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	create := "create table orders (id int, item text); create table marks (slot varchar(250) primary key, token varchar(32), n bigint)"
	if err := srv.Exec(t.Context(), create); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	place := ahead.Directory(dir)
	s := ahead.Sink[Order]{To: Orders{db}, Dir: dir, Batch: 7}
	lossy := s
	lossy.Lost = txn.AcceptLoss
	txntest.Run(t, txntest.Case[Order]{
		TxCase: sinktest.TxCase[Order]{
			Sink: s, Make: func(i int) Order { return Order{i, fmt.Sprint("item ", i)} },
			Visible: func() ([]Order, error) { return written(srv) },
			Left: func(s sink.Slot) ([]string, error) {
				names, err := place.List(t.Context(), s.Name+"-")
				return slices.DeleteFunc(names, func(name string) bool {
					token, _, _ := strings.Cut(name[len(s.Name)+1:], ".")
					return len(token) != txn.TokenLen
				}), err
			},
		},
		Lossy: lossy,
		RollBack: func(ctx context.Context, h sink.Handle) error {
			names, err := place.List(ctx, txn.NameOf(h.Slot.Name, h.Token))
			return errors.Join(err, place.Remove(ctx, names))
		},
		MaxSlot: 208,
	})
}

// written is what the table has.
func written(srv *testsvc.MariaDBServer) (all []Order, err error) {
	lines, err := srv.Query(context.Background(), "select id, item from orders")
	for _, l := range lines {
		id, item, _ := strings.Cut(l, "\t")
		n, nerr := strconv.Atoi(id)
		all, err = append(all, Order{n, item}), errors.Join(err, nerr)
	}
	return all, err
}

// The peer of V1 in Go: reads the same properties of the same objects by govmomi, as govc does, and counts what it has.
//
//	govmomi URL USER PASSWORD-FILE CERTIFICATE '{"VirtualMachine": ["name", …], …}'
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func main() {
	counted, err := discover(context.Background(), os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(counted)
}

func discover(ctx context.Context, words []string) (map[string]int, error) {
	if len(words) != 5 {
		return nil, fmt.Errorf("five words are needed, not %d", len(words))
	}
	address, err := url.Parse(words[0])
	if err != nil {
		return nil, err
	}
	password, err := os.ReadFile(words[2])
	if err != nil {
		return nil, err
	}
	var wanted map[string][]string
	if err := json.Unmarshal([]byte(words[4]), &wanted); err != nil {
		return nil, err
	}
	transport := soap.NewClient(address, false)
	if err := transport.SetRootCAs(words[3]); err != nil {
		return nil, err
	}
	client, err := vim25.NewClient(ctx, transport)
	if err != nil {
		return nil, err
	}
	sessions := session.NewManager(client)
	user := url.UserPassword(words[1], strings.TrimSpace(string(password)))
	if err := sessions.Login(ctx, user); err != nil {
		return nil, err
	}
	defer sessions.Logout(ctx)

	// What is read stays until all is read, as with the others.
	found := make(map[string][]types.ObjectContent)
	for kind, paths := range wanted {
		within, err := view.NewManager(client).CreateContainerView(ctx, client.ServiceContent.RootFolder, []string{kind}, true)
		if err != nil {
			return nil, err
		}
		var objects []types.ObjectContent
		if err := within.Retrieve(ctx, []string{kind}, paths, &objects); err != nil {
			return nil, err
		}
		found[kind] = objects
		if err := within.Destroy(ctx); err != nil {
			return nil, err
		}
	}
	return count(found), nil
}

func count(found map[string][]types.ObjectContent) map[string]int {
	counted := make(map[string]int)
	for kind, objects := range found {
		counted[kind] = len(objects)
		for _, object := range objects {
			for _, property := range object.PropSet {
				switch value := property.Val.(type) {
				case types.ArrayOfVirtualDevice:
					for _, device := range value.VirtualDevice {
						switch device.(type) {
						case *types.VirtualDisk:
							counted["disks"]++
						case types.BaseVirtualEthernetCard:
							counted["nics"]++
						}
					}
				case types.ArrayOfOptionValue:
					counted["extra"] += len(value.OptionValue)
				}
			}
		}
	}
	return counted
}

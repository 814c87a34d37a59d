package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
)

// Tags are kept by VMware's simulator, which has them below /rest only. What comes below /api is put into that form,
// so that both see one state.

const restTagging = "/rest/com/vmware/cis/tagging/"

func (s *site) tagRoutes(route func(method, path string, serve func(reply))) {
	for _, kind := range []string{"category", "tag"} {
		at := "/cis/tagging/" + kind
		route("GET", at, func(a reply) { s.tagging(a, "GET", kind, "", "", http.StatusOK) })
		route("POST", at, func(a reply) {
			switch a.r.URL.Query().Get("action") {
			case "":
				s.tagging(a, "POST", kind, "create_spec", "", http.StatusCreated)
			case "list-tags-for-category":
				s.tagsOfCategory(a)
			default:
				a.fail(http.StatusBadRequest, "INVALID_ARGUMENT", "there is no such action")
			}
		})
		one := at + "/{id}"
		route("GET", one, func(a reply) { s.tagging(a, "GET", kind+"/id:"+a.r.PathValue("id"), "", "", http.StatusOK) })
		route("PATCH", one, func(a reply) {
			s.tagging(a, "PATCH", kind+"/id:"+a.r.PathValue("id"), "update_spec", "", http.StatusNoContent)
		})
		route("DELETE", one, func(a reply) {
			s.tagging(a, "DELETE", kind+"/id:"+a.r.PathValue("id"), "", "", http.StatusNoContent)
		})
	}
	route("POST", "/cis/tagging/tag-association", func(a reply) {
		s.tagging(a, "POST", "tag-association", "", a.r.URL.Query().Get("action"), http.StatusOK)
	})
	route("POST", "/cis/tagging/tag-association/{id}", func(a reply) {
		action, status := a.r.URL.Query().Get("action"), http.StatusNoContent
		if action == "list-attached-objects" {
			status = http.StatusOK
		}
		s.tagging(a, "POST", "tag-association/id:"+a.r.PathValue("id"), "", action, status)
	})
}

// tagging passes a request on, its body within `wrap` where that is given.
func (s *site) tagging(a reply, method, path, wrap, action string, status int) {
	body, err := io.ReadAll(a.r.Body)
	if err == nil && wrap != "" {
		body, err = json.Marshal(map[string]json.RawMessage{wrap: body})
	}
	if err != nil {
		a.fail(http.StatusBadRequest, "INVALID_ARGUMENT", "the body is no JSON")
		return
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	target := restTagging + path
	if action != "" {
		target += "?~action=" + url.QueryEscape(action)
	}
	said := s.tokens.ask(method, target, sessionOf(a.r), nil, body)
	switch {
	case said.status == http.StatusNotFound:
		a.fail(http.StatusNotFound, "NOT_FOUND", "there is no such tag or category")
	case bytes.Contains(said.body.Bytes(), []byte("already_exists")):
		a.fail(http.StatusBadRequest, "ALREADY_EXISTS", "the name is taken")
	case said.status >= 400:
		a.fail(http.StatusBadRequest, "INVALID_ARGUMENT", "the tagging service refused it")
	case status == http.StatusNoContent:
		a.done()
	default:
		a.value(status, full(said.value()))
	}
}

// full puts empty lists where VMware's simulator writes null.
func full(value json.RawMessage) any {
	var v any
	json.Unmarshal(value, &v)
	if v == nil {
		return []any{}
	}
	if rows, ok := v.([]any); ok {
		for _, row := range rows {
			if fields, ok := row.(map[string]any); ok {
				for _, name := range []string{"tag_ids", "object_ids"} {
					if held, there := fields[name]; there && held == nil {
						fields[name] = []any{}
					}
				}
			}
		}
	}
	return v
}

func (s *site) tagsOfCategory(a reply) {
	var asked struct {
		Category string `json:"category_id"`
	}
	if json.NewDecoder(a.r.Body).Decode(&asked) != nil || asked.Category == "" {
		a.fail(http.StatusBadRequest, "INVALID_ARGUMENT", "category_id is required")
		return
	}
	a.r.Body = http.NoBody
	s.tagging(a, "POST", "tag/id:"+asked.Category, "", "list-tags-for-category", http.StatusOK)
}

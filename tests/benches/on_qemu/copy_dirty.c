/* The peer of Q2: copies what an export's dirty bitmap names into a file, by libnbd.
 *
 *   cc -O2 -o copy_dirty copy_dirty.c -lnbd && ./copy_dirty URI BITMAP FILE
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libnbd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH 16
#define PIECE (1 << 20)
#define SPAN (1 << 30)

struct extents {
  const char *context;
  uint64_t end;
  size_t count, room;
  struct run { uint64_t start, len; } *runs;
};

struct slot {
  char *bytes;
  uint64_t start, len;
  bool busy;
};

static struct nbd_handle *nbd;
static int out;
static uint64_t copied;

static void die(const char *what) {
  fprintf(stderr, "copy_dirty: %s: %s\n", what, nbd_get_error() ? nbd_get_error() : strerror(errno));
  exit(1);
}

static int told(void *user, const char *context, uint64_t start, uint32_t *entries, size_t count, int *error) {
  struct extents *all = user;
  if (strcmp(context, all->context) != 0)
    return 0;
  for (size_t n = 0; n + 1 < count; n += 2) {
    struct run *last = all->count ? &all->runs[all->count - 1] : NULL;
    if (entries[n + 1] & 1) {
      if (last && last->start + last->len == start) {
        last->len += entries[n];
      } else {
        if (all->count == all->room) {
          all->room = all->room ? 2 * all->room : 1024;
          all->runs = realloc(all->runs, all->room * sizeof *all->runs);
          if (!all->runs)
            die("memory");
        }
        all->runs[all->count++] = (struct run){ start, entries[n] };
      }
    }
    start += entries[n];
  }
  all->end = start;
  return 0;
}

static int landed(void *user, int *error) {
  struct slot *slot = user;
  if (*error) {
    errno = *error;
    die("read");
  }
  for (uint64_t done = 0; done < slot->len;) {
    ssize_t written = pwrite(out, slot->bytes + done, slot->len - done, slot->start + done);
    if (written < 0)
      die("write");
    done += written;
  }
  copied += slot->len;
  slot->busy = false;
  return 1;
}

int main(int argc, char **argv) {
  if (argc != 4)
    return 2;
  char context[512];
  snprintf(context, sizeof context, "qemu:dirty-bitmap:%s", argv[2]);
  out = open(argv[3], O_WRONLY);
  if (out < 0)
    die(argv[3]);
  nbd = nbd_create();
  if (!nbd || nbd_add_meta_context(nbd, context) < 0 || nbd_set_pread_initialize(nbd, false) < 0 ||
      nbd_connect_uri(nbd, argv[1]) < 0)
    die("connect");

  struct extents all = { .context = context };
  int64_t size = nbd_get_size(nbd);
  while (all.end < (uint64_t)size) {
    uint64_t left = size - all.end, start = all.end;
    nbd_extent_callback callback = { .callback = told, .user_data = &all };
    if (nbd_block_status(nbd, left < SPAN ? left : SPAN, start, callback, 0) < 0)
      die("block status");
    if (all.end == start)
      die("nothing is told");
  }

  struct slot slots[DEPTH] = { 0 };
  for (int n = 0; n < DEPTH; n++)
    if (!(slots[n].bytes = malloc(PIECE)))
      die("memory");
  size_t run = 0;
  uint64_t at = 0;
  for (bool busy = true; busy || run < all.count;) {
    busy = false;
    for (int n = 0; n < DEPTH; n++) {
      struct slot *slot = &slots[n];
      if (!slot->busy && run < all.count) {
        uint64_t left = all.runs[run].len - at;
        slot->start = all.runs[run].start + at;
        slot->len = left < PIECE ? left : PIECE;
        slot->busy = true;
        nbd_completion_callback callback = { .callback = landed, .user_data = slot };
        if (nbd_aio_pread(nbd, slot->bytes, slot->len, slot->start, callback, 0) < 0)
          die("read");
        at += slot->len;
        if (at == all.runs[run].len)
          run++, at = 0;
      }
      busy |= slot->busy;
    }
    if (busy && nbd_poll(nbd, -1) < 0)
      die("poll");
  }
  if (fdatasync(out) < 0)
    die("sync");
  printf("%" PRIu64 "\n", copied);
  nbd_close(nbd);
  return 0;
}

//! Page blobs.

use crate::client::Site;
use fake_blob::Config;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn pages_are_written_cleared_and_read() {
    let site = Site::ready().await;
    site.page_blob("a", 4 * MIB).await;
    let put = site.write("a", 65024, &[7; 2048], &[]).await;
    assert_eq!((put.status, put.header("x-ms-blob-sequence-number")), (201, Some("0")));
    assert_eq!(site.clear("a", 65536, 512).await.status, 201);
    let got = site.get("vault/disks/a", &[("x-ms-range", "bytes=65000-67583")]).await;
    assert_eq!((got.status, got.header("content-range")), (206, Some("bytes 65000-67583/4194304")));
    let wanted = [vec![0; 24], vec![7; 512], vec![0; 512], vec![7; 1024], vec![0; 512]].concat();
    assert_eq!(got.body, wanted);
    let whole = site.get("vault/disks/a", &[]).await;
    assert_eq!((whole.status, whole.body.len()), (200, 4 << 20));
    assert_eq!(whole.body[65000..67584], wanted);
    let list = site.get("vault/disks/a?comp=pagelist", &[]).await;
    assert_eq!(list.ranges(), [('P', 65024, 65535), ('P', 66048, 67071)]);
    assert_eq!(list.header("x-ms-blob-content-length"), Some("4194304"));
}

#[tokio::test]
async fn what_is_no_page_is_refused() {
    let site = Site::ready().await;
    site.page_blob("a", MIB).await;
    site.document("text", "x").await;
    site.write("a", 1, &[1; 512], &[]).await.refused(400, "InvalidHeaderValue");
    site.write("a", 0, &[1; 100], &[]).await.refused(400, "InvalidHeaderValue");
    site.write("a", MIB, &[1; 512], &[]).await.refused(416, "InvalidPageRange");
    site.clear("a", MIB - 512, 1024).await.refused(416, "InvalidPageRange");
    site.write("text", 0, &[1; 512], &[]).await.refused(409, "InvalidBlobType");
    site.write("none", 0, &[1; 512], &[]).await.refused(404, "BlobNotFound");
    let short = [("x-ms-page-write", "update"), ("x-ms-range", "bytes=0-1023")];
    site.put("vault/disks/a?comp=page", &short, vec![1; 512]).await.refused(400, "InvalidHeaderValue");
    site.put("vault/disks/a?comp=page", &short[1..], vec![1; 1024])
        .await
        .refused(400, "MissingRequiredHeader");
    assert!(site.fake.blob("vault", "disks", "a").unwrap().image.unwrap().ranges().is_empty());
    let odd = [("x-ms-blob-type", "PageBlob"), ("x-ms-blob-content-length", "1000")];
    site.put("vault/disks/b", &odd, "").await.refused(400, "InvalidHeaderValue");
    site.put("vault/disks/b", &odd[..1], "").await.refused(400, "MissingRequiredHeader");
}

#[tokio::test]
async fn one_request_writes_four_mebibytes_and_no_more() {
    let site = Site::ready().await;
    site.page_blob("a", 16 * MIB).await;
    let most = vec![3; 4 << 20];
    assert_eq!(site.write("a", 0, &most, &[]).await.status, 201);
    site.write("a", 8 * MIB, &[most, vec![3; 512]].concat(), &[]).await.refused(413, "RequestBodyTooLarge");
    assert_eq!(site.clear("a", 0, 16 * MIB).await.status, 201);
    assert!(site.fake.blob("vault", "disks", "a").unwrap().image.unwrap().ranges().is_empty());
}

#[tokio::test]
async fn a_checksum_that_does_not_fit_keeps_the_page_out() {
    let site = Site::ready().await;
    site.page_blob("a", MIB).await;
    let bad = [("x-ms-content-crc64", "AAAAAAAAAAA=")];
    site.write("a", 0, &[1; 512], &bad).await.refused(400, "Crc64Mismatch");
    let good = site.write("a", 512, &[1; 512], &[]).await.header("x-ms-content-crc64").unwrap().to_owned();
    assert_eq!(site.write("a", 1024, &[1; 512], &[("x-ms-content-crc64", &good)]).await.status, 201);
    assert_eq!(site.get("vault/disks/a?comp=pagelist", &[]).await.ranges(), [('P', 512, 1535)]);
    site.write("a", 0, &[1; 512], &[("Content-MD5", "x")]).await.refused(501, "NotFaked");
}

#[tokio::test]
async fn the_sequence_number_keeps_late_writers_out() {
    let site = Site::ready().await;
    site.page_blob("a", MIB).await;
    let path = "vault/disks/a?comp=properties";
    let set = |action: &'static str, number: &'static str| {
        let number = (!number.is_empty()).then_some(("x-ms-blob-sequence-number", number));
        [Some(("x-ms-sequence-number-action", action)), number].into_iter().flatten().collect::<Vec<_>>()
    };
    let told = async |headers: Vec<(&str, &str)>| {
        let got = site.put(path, &headers, "").await;
        got.header("x-ms-blob-sequence-number").map(str::to_owned).ok_or(got)
    };
    assert_eq!(told(set("max", "7")).await.unwrap(), "7");
    assert_eq!(told(set("max", "3")).await.unwrap(), "7");
    assert_eq!(told(set("increment", "")).await.unwrap(), "8");
    told(set("increment", "1")).await.unwrap_err().refused(400, "InvalidHeaderValue");
    told(set("update", "")).await.unwrap_err().refused(400, "MissingRequiredHeader");
    let (eq, le, lt) =
        ("x-ms-if-sequence-number-eq", "x-ms-if-sequence-number-le", "x-ms-if-sequence-number-lt");
    for (name, passes, fails) in [(eq, "8", "7"), (le, "8", "7"), (lt, "9", "8")] {
        assert_eq!(site.write("a", 0, &[1; 512], &[(name, passes)]).await.status, 201, "{name}");
        let late = site.write("a", 0, &[2; 512], &[(name, fails)]).await;
        late.refused(412, "SequenceNumberConditionNotMet");
    }
    let range = [("x-ms-page-write", "clear"), ("x-ms-range", "bytes=0-511"), (eq, "7")];
    site.put("vault/disks/a?comp=page", &range, "").await.refused(412, "SequenceNumberConditionNotMet");
    let held = site.fake.blob("vault", "disks", "a").unwrap();
    assert_eq!(held.image.unwrap().read(0, 512), [1; 512]);
    assert_eq!(told(set("update", "2")).await.unwrap(), "2");
    assert_eq!(site.head("vault/disks/a").await.header("x-ms-blob-sequence-number"), Some("2"));
}

#[tokio::test]
async fn a_blob_grows_and_shrinks() {
    let site = Site::ready().await;
    site.page_blob("a", MIB).await;
    assert_eq!(site.write("a", MIB - 1024, &[9; 1024], &[]).await.status, 201);
    let resize = async |size: &str| {
        site.put("vault/disks/a?comp=properties", &[("x-ms-blob-content-length", size)], "").await
    };
    resize("1000").await.refused(400, "InvalidHeaderValue");
    assert_eq!(resize("1048064").await.status, 200);
    assert_eq!(resize("2097152").await.status, 200);
    let got = site.get("vault/disks/a", &[]).await;
    assert_eq!(got.body.len(), 2 << 20);
    assert_eq!(got.body[(1 << 20) - 1024..][..1024], [vec![9; 512], vec![0; 512]].concat());
}

#[tokio::test]
async fn ranges_come_in_parts_and_cut_to_what_is_asked() {
    let site = Site::ready_with(Config::account("vault").range_page(3)).await;
    site.page_blob("a", MIB).await;
    for at in [0, 1024, 2048, 4096, 131_072] {
        assert_eq!(site.write("a", at, &[1; 512], &[]).await.status, 201);
    }
    let mut all = vec![];
    let mut marker = String::new();
    for part in [2, 2, 1] {
        let path = format!("vault/disks/a?comp=pagelist&maxresults=2&marker={}", marker.replace('=', "%3D"));
        let got = site.get(&path, &[]).await;
        assert_eq!(got.ranges().len(), part);
        all.extend(got.ranges());
        marker = got.all("NextMarker").remove(0);
    }
    assert_eq!(marker, "");
    let starts: Vec<_> = all.iter().map(|range| range.1).collect();
    assert_eq!(starts, [0, 1024, 2048, 4096, 131_072]);
    assert_eq!(site.get("vault/disks/a?comp=pagelist", &[]).await.ranges().len(), 3);
    let cut = site.get("vault/disks/a?comp=pagelist", &[("Range", "bytes=1024-2559")]).await;
    assert_eq!(cut.ranges(), [('P', 1024, 1535), ('P', 2048, 2559)]);
    site.get("vault/disks/a?comp=pagelist&marker=x", &[]).await.refused(400, "InvalidQueryParameterValue");
}

#[tokio::test]
async fn a_sink_keeps_hashes_and_no_bytes() {
    let site = Site::sink().await;
    site.page_blob("a", MIB).await;
    assert_eq!(site.write("a", 1024, &[5; 1024], &[]).await.status, 201);
    let sunk = site.fake.sunk("vault", "disks", "a");
    assert_eq!(sunk.len(), 1);
    let hash = xxhash_rust::xxh3::xxh3_64(&[5; 1024]);
    assert_eq!((sunk[0].offset, sunk[0].len, sunk[0].xxh3), (1024, 1024, hash));
    assert_eq!(site.get("vault/disks/a?comp=pagelist", &[]).await.ranges(), [('P', 1024, 2047)]);
    site.get("vault/disks/a", &[]).await.refused(501, "NotFaked");
    assert_eq!(site.get("vault/disks/a", &[("Range", "bytes=0-511")]).await.body, [0; 512].as_slice());
}

#[tokio::test]
async fn four_tebibytes_with_few_pages_cost_little() {
    let site = Site::ready().await;
    site.page_blob("a", 4 << 40).await;
    assert_eq!(site.write("a", (4 << 40) - 512, &[8; 512], &[]).await.status, 201);
    let snapshot = site.snapshot("a", &[]).await;
    assert_eq!(site.clear("a", 0, 4 << 40).await.status, 201);
    let path = format!("vault/disks/a?snapshot={snapshot}&comp=pagelist");
    assert_eq!(site.get(&path, &[]).await.ranges(), [('P', (4 << 40) - 512, (4 << 40) - 1)]);
    let path = format!("vault/disks/a?prevsnapshot={snapshot}&comp=pagelist");
    assert_eq!(site.get(&path, &[]).await.ranges(), [('C', (4 << 40) - 512, (4 << 40) - 1)]);
}

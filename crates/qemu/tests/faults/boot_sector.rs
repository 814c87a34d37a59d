//! Guests of one sector: they do one thing for ever by the BIOS, and tell of it at port E9h, where `-debugcon` listens. What
//! fails, they tell as `E`.

/// Reads sectors for ever, 1 to 4095 and again from 0, into 0:8000h; tells the first byte of each.
///
/// ```text
/// 7c00  cld; xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax; mov sp,7c00h; mov [7c60h],dl
/// 7c10  mov word [7c52h],1; mov si,7c50h; mov dl,[7c60h]; mov ah,42h; int 13h; jc 7c34h
/// 7c23  mov al,[8000h]; out e9h,al; inc word [7c58h]; and word [7c58h],0fffh; jmp 7c10h
/// 7c34  mov al,'E'; out e9h,al; jmp 7c10h
/// 7c50  the packet of function 42h: 16 bytes, 1 sector, to 0:8000h, from sector 1
/// ```
pub(crate) fn reader() -> Vec<u8> {
    let code = b"\xfc\x31\xc0\x8e\xd8\x8e\xc0\x8e\xd0\xbc\x00\x7c\x88\x16\x60\x7c\
        \xc7\x06\x52\x7c\x01\x00\xbe\x50\x7c\x8a\x16\x60\x7c\xb4\x42\xcd\x13\x72\x11\
        \xa0\x00\x80\xe6\xe9\xff\x06\x58\x7c\x81\x26\x58\x7c\xff\x0f\xeb\xdc\
        \xb0\x45\xe6\xe9\xeb\xd6";
    sector(code, 0x50)
}

/// How many sectors, from 1 on, the writer writes.
pub(crate) const WRITTEN: u32 = 64;

/// Counts for ever from 1, and writes the count to sector `count % 64 + 1` of the first disk, then of the second; tells a dot
/// for each count when both are written.
///
/// ```text
/// 7c00  cld; xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax; mov sp,7c00h; nop; nop; nop; nop
/// 7c10  inc dword [8000h]; mov ax,[8000h]; and ax,3fh; inc ax; mov [7c68h],ax
/// 7c1f  mov dl,80h; call 7c2fh; mov dl,81h; call 7c2fh; mov al,'.'; out e9h,al; jmp 7c10h
/// 7c2f  mov word [7c62h],1; mov si,7c60h; mov ax,4300h; int 13h; jc 7c40h; ret
/// 7c40  mov al,'E'; out e9h,al; jmp 7c2fh
/// 7c60  the packet of function 43h: 16 bytes, 1 sector, from 0:8000h
/// ```
pub(crate) fn writer() -> Vec<u8> {
    let code = b"\xfc\x31\xc0\x8e\xd8\x8e\xc0\x8e\xd0\xbc\x00\x7c\x90\x90\x90\x90\
        \x66\xff\x06\x00\x80\xa1\x00\x80\x25\x3f\x00\x40\xa3\x68\x7c\
        \xb2\x80\xe8\x0b\x00\xb2\x81\xe8\x06\x00\xb0\x2e\xe6\xe9\xeb\xe1\
        \xc7\x06\x62\x7c\x01\x00\xbe\x60\x7c\xb8\x00\x43\xcd\x13\x72\x01\xc3\
        \xb0\x45\xe6\xe9\xeb\xe9";
    sector(code, 0x60)
}

/// What a guest tells where something failed.
pub(crate) const ERROR: u8 = b'E';

fn sector(code: &[u8], packet: usize) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..code.len()].copy_from_slice(code);
    bytes[packet..packet + 9].copy_from_slice(b"\x10\x00\x01\x00\x00\x80\x00\x00\x01");
    bytes[510..].copy_from_slice(b"\x55\xaa");
    bytes
}

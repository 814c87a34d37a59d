# The boot probe's guest: one boot sector that does what kernels do first, and says how it went. `sector.rs` is this, made by
#
#   as --32 -o sector.o sector.S
#   ld -m elf_i386 -Ttext 0x7c00 -e 0x7c00 --oformat binary -o sector.bin sector.o
#
# Its memory: page tables at 0x1000, gates at 0x4000, what the BIOS says of the disk at 0x6000, code at 0x7c00 and the stack
# below it. Nothing handles a fault, so one is a reset, and under `-no-reboot` an end with another status.

.set SUCCESS, 0x31                      # QEMU ends with 2 * SUCCESS + 1
.set FAILURE, 0x13
.set EXIT, 0xf4                         # isa-debug-exit
.set TICKS, 32                          # of each timer
.set FROM, 0x400000                     # 16 MiB of memory
.set UPTO, 0x1400000
.set PASSES, 16                         # with eleven instructions for each 8 bytes: 369 million

.code16
start:  cli
        xor     %eax, %eax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $0x7c00, %sp
        ljmp    $0, $1f

        # What a kernel's setup asks the BIOS: does the disk have extensions (EDD), and what do they say?
1:      sti
        mov     $0x41, %ah
        mov     $0x55aa, %bx
        mov     $0x80, %dl
        int     $0x13
        jc      failed
        cmp     $0xaa55, %bx
        jne     failed
        mov     $0x48, %ah
        mov     $0x80, %dl
        mov     $0x6000, %si
        movw    $0x1a, (%si)
        int     $0x13
        jc      failed
        cli

        # Page tables: 32 MiB as they are, and the local APIC.
        cld
        xor     %eax, %eax
        mov     $0x1000, %di
        mov     $0x2800, %cx
        rep stosw
        movw    $0x2003, 0x1000
        movw    $0x3003, 0x2000
        movw    $0x5003, 0x2018         # the fourth GiB
        mov     $0x3000, %di
        mov     $0x83, %al
1:      mov     %eax, (%di)
        add     $0x200000, %eax
        add     $8, %di
        cmp     $0x3080, %di
        jne     1b
        movl    $0xfee0009b, 0x5fb8     # not cached
        # Gates of both timers.
        movw    $pit, 0x4200
        movw    $apic, 0x4210
        movb    $8, 0x4202
        movb    $8, 0x4212
        movb    $0x8e, 0x4205
        movb    $0x8e, 0x4215

        # Protected mode, and from there long mode.
        lgdt    gdtr
        lidt    idtr
        mov     $0x33, %eax             # NE, ET, MP, PE
        mov     %eax, %cr0
        ljmp    $16, $1f
.code32
1:      mov     $24, %al
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     %cr4, %eax
        or      $0xa0, %al              # PAE, PGE
        mov     %eax, %cr4
        mov     $0x1000, %eax
        mov     %eax, %cr3
        mov     $0xc0000080, %ecx       # EFER
        rdmsr
        or      $0x101, %ax             # LME, SCE
        wrmsr
        mov     $0x80010033, %eax       # PG, WP
        mov     %eax, %cr0
        ljmp    $8, $long

.code64
        # Who the processor is, and registers that every kernel reads and writes.
long:   xor     %eax, %eax
        cpuid
        mov     $1, %eax
        cpuid
        mov     $0x1b, %ecx             # APIC base
        rdmsr
        wrmsr
        mov     $0x277, %ecx            # PAT
        rdmsr
        wrmsr
        rdtsc
        invlpg  (%rdi)

        # The old timer, a thousand times a second, through the old interrupt controller.
        mov     $0x11, %al
        out     %al, $0x20
        mov     $0x20, %al              # vectors from 0x20 on
        out     %al, $0x21
        mov     $4, %al
        out     %al, $0x21
        mov     $1, %al
        out     %al, $0x21
        mov     $0xfe, %al              # the timer alone
        out     %al, $0x21
        mov     $0xff, %al
        out     %al, $0xa1
        mov     $0x34, %al
        out     %al, $0x43
        mov     $0xa9, %al              # 1193
        out     %al, $0x40
        mov     $0x04, %al
        out     %al, $0x40
        xor     %ebx, %ebx
        sti
1:      hlt
        cmp     $TICKS, %ebx
        jb      1b
        mov     $0xff, %al
        out     %al, $0x21

        # The local APIC's timer.
        mov     $0xfee00000, %ebp
        movl    $0x1ff, 0xf0(%rbp)      # on
        movl    $0xb, 0x3e0(%rbp)       # undivided
        movl    $0x20021, 0x320(%rbp)   # again and again, vector 0x21
        movl    $1000000, 0x380(%rbp)
        xor     %ebx, %ebx
1:      hlt
        cmp     $TICKS, %ebx
        jb      1b

        # Memory and plain instructions, while the timer ticks. Each place gets what no other place and pass gets.
        mov     $PASSES, %ecx
2:      mov     $FROM, %edi
1:      lea     (%rdi,%rcx), %rdx
        mov     %rdx, (%rdi)
        add     $8, %edi
        cmp     $UPTO, %edi
        jne     1b
        mov     $FROM, %edi
1:      lea     (%rdi,%rcx), %rdx
        cmp     %rdx, (%rdi)
        jne     failed
        add     $8, %edi
        cmp     $UPTO, %edi
        jne     1b
        dec     %ecx
        jnz     2b

        mov     $SUCCESS, %al
        jmp     ended
failed: mov     $FAILURE, %al           # these bytes are the same in all modes
ended:  out     %al, $EXIT
        hlt                             # QEMU may take a while to end
        jmp     ended

pit:    push    %rax
        inc     %ebx
        mov     $0x20, %al
        out     %al, $0x20
        pop     %rax
        iretq

apic:   inc     %ebx
        movl    $0, 0xb0(%rbp)
        iretq

        .balign 8
gdt:    .quad   0
        .quad   0x00af9b000000ffff      # code of 64 bits
        .quad   0x00cf9b000000ffff      # code of 32 bits
        .quad   0x00cf93000000ffff      # data
gdtr:   .word   31
        .long   gdt
idtr:   .word   0x21f
        .long   0x4000

.org 510
        .word   0xaa55
